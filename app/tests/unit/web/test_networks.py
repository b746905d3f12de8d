"""Networks as pictures."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from labfleet.web.pages.networks import MARGIN, NODES, SIDE, Network, drawing, read_network

GRAPHML = b"""<?xml version="1.0"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns">
<key id="d0" for="node" attr.name="name" attr.type="string"/>
<key id="d1" for="edge" attr.name="weight" attr.type="double"/>
<graph edgedefault="undirected">
<node id="n0"><data key="d0">&lt;ABC&gt;</data></node><node id="n1"/><node id="n2"/>
<edge source="n0" target="n1"><data key="d1">-2.5</data></edge>
</graph></graphml>"""
BOMB = (
    b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><graphml><graph><node id="&b;"/></graph></graphml>'
)


def test_graphml() -> None:
    found = read_network(GRAPHML, "a.graphml", None)
    assert found == Network({"n0": "<ABC>", "n1": "n1", "n2": "n2"}, [("n0", "n1", -2.5)])


@pytest.mark.parametrize(
    ("text", "edges"),
    [
        (b"source,target,weight\na,b,0.5\nb,c,\n", [("a", "b", 0.5), ("b", "c", 1.0)]),
        (b"w,to,from\n2,x,y\n", [("y", "x", 2.0)]),
        (b"a,b\nb,c\n", [("b", "c", 1.0)]),
        (b"g1,g2,3\ng2,g3,4\n", [("g1", "g2", 3.0), ("g2", "g3", 4.0)]),
    ],
)
def test_lists_of_edges(text: bytes, edges: list[tuple[str, str, float]]) -> None:
    found = read_network(text, "edges.csv", ",")
    assert found is not None and found.edges == edges
    assert set(found.nodes) == {end for edge in edges for end in edge[:2]}


@pytest.mark.parametrize("data", [b"", b"<graphml", b"<graphml/>", BOMB])
def test_what_is_no_network_is_none(data: bytes) -> None:
    assert read_network(data, "a.graphml", None) is None


def test_the_drawing_is_an_svg_of_which_nothing_runs() -> None:
    network = read_network(GRAPHML, "a.graphml", None)
    assert network is not None
    picture = drawing(network)
    root = ElementTree.fromstring(picture)
    circles = [item for item in root.iter() if item.tag.endswith("circle")]
    assert len(circles) == 3 and "&lt;ABC&gt;" in picture and "<ABC" not in picture
    for circle in circles:
        assert 0 < float(circle.get("cx", "")) < SIDE and MARGIN / 3 < float(circle.get("cy", "")) < SIDE
    assert drawing(network) == picture  # no chance in it


def test_a_large_network_shows_its_busiest_part_and_says_so() -> None:
    edges = [(f"n{number}", f"n{number + 1}", 1.0) for number in range(NODES + 50)]
    network = Network({end: end for edge in edges for end in edge[:2]}, edges)
    assert f"The {NODES} busiest nodes" in drawing(network)


def test_a_network_without_edges() -> None:
    assert drawing(Network({"a": "a"}, [])).count("<circle") == 1
