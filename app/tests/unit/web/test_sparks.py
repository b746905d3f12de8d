"""Small plots."""

from __future__ import annotations

from labfleet.web.pages.sparks import HEIGHT, WIDTH, spark


def test_the_line_lies_in_its_box_and_is_told_in_words() -> None:
    plot = spark([(0, 0), (50, 4), (100, 2)], (0, 100), "Busy slots")
    assert plot is not None
    assert plot.line == f"0.0,{HEIGHT}.0 {WIDTH / 2:.1f},0.0 {WIDTH}.0,{HEIGHT / 2:.1f}"
    assert plot.area.startswith(f"0.0,{HEIGHT} ") and plot.area.endswith(f" {WIDTH}.0,{HEIGHT}")
    assert plot.told == "Busy slots over the last day: at most 4, last 2"


def test_a_quiet_figure_does_not_look_busy() -> None:
    plot = spark([(0, 1), (100, 1)], (0, 100), "Load", 8)
    assert plot is not None
    assert plot.line == f"0.0,{HEIGHT * 7 / 8:.1f} {WIDTH}.0,{HEIGHT * 7 / 8:.1f}"


def test_times_outside_of_the_span_stay_at_its_edge() -> None:
    plot = spark([(-10, 0), (120, 0)], (0, 100), "Load")
    assert plot is not None
    assert plot.line == f"0.0,{HEIGHT}.0 {WIDTH}.0,{HEIGHT}.0"


def test_one_point_is_no_plot() -> None:
    assert spark([(0, 1)], (0, 100), "Load") is None
