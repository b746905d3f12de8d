// Plots of arrays: each element with data-series is filled with the lines that its addresses give.
// Several addresses, one a line as "ADDRESS NAME", are laid over each other.
"use strict";

(() => {
  // Told apart by most people who see colours differently (Okabe and Ito); dashes tell apart what is laid over.
  const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f"];
  const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3]];

  function fail(box, text) {
    const told = document.createElement("p");
    told.className = "soft";
    told.textContent = text;
    box.replaceChildren(told);
  }

  async function load(line) {
    const [address, ...name] = line.trim().split(" ");
    const answer = await fetch(address, { headers: { Accept: "application/json" } });
    if (!answer.ok) throw new Error("This file has no numbers to plot. Download it.");
    return { name: name.join(" "), ...(await answer.json()) };
  }

  // One axis for all: the values of each line at its own places, gaps elsewhere.
  function joined(sources) {
    const tables = sources.map((source) => [source.across, ...Object.values(source.lines)]);
    return tables.length === 1 ? tables[0] : window.uPlot.join(tables);
  }

  // A name with its unit, where its protocol says one.
  function called(source, name) {
    return source.units[name] ? `${name} (${source.units[name]})` : name;
  }

  // What the upright axis counts: the unit, where all lines have the same one.
  function upright(sources) {
    const units = new Set(sources.flatMap((source) => Object.keys(source.lines).map((name) => source.units[name] || "")));
    return units.size === 1 ? [...units][0] : "";
  }

  // As wide as the longest figure on the upright axis: a minus sign must not be cut off.
  function room(plot, figures) {
    return 20 + 8 * Math.max(4, ...(figures ?? []).map((figure) => figure.length));
  }

  function options(box, sources) {
    const ink = getComputedStyle(box).color;
    const line = getComputedStyle(box).getPropertyValue("--line");
    const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
    const several = sources.length > 1;
    const across = called(sources[0], sources[0].axis);
    const up = upright(sources);
    const series = [{ label: across }];
    sources.forEach((source, place) => {
      Object.keys(source.lines).forEach((name, number) => {
        series.push({
          label: several ? `${called(source, name)} · ${source.name}` : called(source, name),
          stroke: COLOURS[(several ? place : number) % COLOURS.length],
          dash: DASHES[(several ? number : Math.floor(number / COLOURS.length)) % DASHES.length],
          width: 1.75,
          spanGaps: true,
          points: { show: source.across.length < 60 },
        });
      });
    });
    return {
      width: box.clientWidth,
      height: box.classList.contains("large") ? 460 : 300,
      scales: { x: { time: false } },
      axes: [{ ...axis, label: across }, { ...axis, size: room, ...(up && { label: up }) }],
      series,
    };
  }

  window.labfleetPlot = async (box) => {
    try {
      const lines = box.dataset.series.split("\n").filter((line) => line.trim());
      const sources = await Promise.all(lines.map(load));
      box.replaceChildren();
      const plot = new window.uPlot(options(box, sources), joined(sources), box);
      box.setAttribute("role", "img");
      box.setAttribute("aria-label", `${box.dataset.title || "Plot"} over ${sources[0].axis}`);
      new ResizeObserver(() => plot.setSize({ width: box.clientWidth, height: plot.height })).observe(box);
    } catch (error) {
      fail(box, error.message);
    }
  };
})();
