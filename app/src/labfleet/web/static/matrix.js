// The matrix as a picture: drawn on a canvas from the letters that the page carries, 40,000 cells in a blink.
// Without this file the letters are there to be read.
"use strict";

(() => {
  const box = document.querySelector("#matrix");
  if (!box) return;
  const panel = document.querySelector(".panel");
  const part = (name) => panel.querySelector(`[data-${name}]`);
  const STATES = { q: "queued", r: "running", s: "success", f: "failed", p: "partial", i: "inapplicable", c: "cancelled" };
  const FIELDS = { q: "--queued", r: "--running", s: "--success", f: "--failed", p: "--queued", i: "--queued", c: "--neutral" };
  const PAUSE = 5000;
  const rows = [...box.querySelectorAll("tbody tr")].map((row) => ({
    id: row.dataset.name,
    title: row.querySelector("th").textContent.trim(),
    cells: row.querySelector("code").textContent,
  }));
  const columns = [...box.querySelectorAll("ol li")].map((item) => ({ id: item.dataset.id, title: item.textContent.trim() }));
  const canvas = document.createElement("canvas");
  const pen = canvas.getContext("2d");
  const chosen = new Set(); // row * columns.length + column
  let cursor = null;
  let drag = null;
  let size = 16;
  let left = 0;
  let top = 0;
  let colours = {};

  const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
  const letter = (row, column) => rows[row].cells[column];
  const number = (row, column) => row * columns.length + column;

  function readColours() {
    const style = getComputedStyle(document.documentElement);
    const value = (name) => style.getPropertyValue(name).trim();
    colours = { ink: value("--ink"), soft: value("--soft"), line: value("--line"), accent: value("--accent") };
    for (const [state, name] of Object.entries(FIELDS)) colours[state] = [value(name), value(`${name}-back`)];
  }

  function measure() {
    const room = box.clientWidth;
    size = Math.min(34, Math.max(9, Math.floor((room * 0.75) / columns.length)));
    const font = `${Math.min(14, Math.max(9, size - 2))}px ${getComputedStyle(document.body).fontFamily}`;
    pen.font = font;
    const widest = (list, most) => Math.max(...list.map((item) => pen.measureText(cut(item.title, most)).width));
    const letters = room < 600 ? 16 : 32;
    left = Math.ceil(widest(rows, letters)) + 12;
    top = Math.ceil(widest(columns, 22)) + 12;
    const ratio = window.devicePixelRatio || 1;
    const width = left + columns.length * size + 2;
    const height = top + rows.length * size + 2;
    canvas.width = Math.ceil(width * ratio);
    canvas.height = Math.ceil(height * ratio);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.font = font;
    return letters;
  }

  // A shape for each state, beside its colour.
  function shape(state, x, y, half) {
    pen.beginPath();
    if (state === "s") {
      pen.moveTo(x - half, y); pen.lineTo(x - half / 4, y + half * 0.75); pen.lineTo(x + half, y - half * 0.75); pen.stroke();
    } else if (state === "f") {
      pen.moveTo(x - half * 0.8, y - half * 0.8); pen.lineTo(x + half * 0.8, y + half * 0.8);
      pen.moveTo(x + half * 0.8, y - half * 0.8); pen.lineTo(x - half * 0.8, y + half * 0.8); pen.stroke();
    } else if (state === "r") {
      pen.moveTo(x - half * 0.6, y - half); pen.lineTo(x + half, y); pen.lineTo(x - half * 0.6, y + half); pen.fill();
    } else if (state === "q") {
      pen.arc(x, y, half * 0.75, 0, 7); pen.stroke();
    } else if (state === "p") {
      pen.arc(x, y, half * 0.85, Math.PI / 2, Math.PI * 1.5); pen.fill();
      pen.beginPath(); pen.arc(x, y, half * 0.85, 0, 7); pen.stroke();
    } else if (state === "i") {
      pen.fillRect(x - half, y - half / 4, half * 2, half / 2);
    } else if (state === "c") {
      pen.fillRect(x - half / 2, y - half / 2, half, half);
    }
  }

  function names(letters) {
    pen.fillStyle = colours.soft;
    pen.textBaseline = "middle";
    pen.textAlign = "right";
    rows.forEach((row, at) => pen.fillText(cut(row.title, letters), left - 8, top + (at + 0.5) * size));
    pen.textAlign = "left";
    columns.forEach((column, at) => {
      pen.save();
      pen.translate(left + (at + 0.5) * size, top - 8);
      pen.rotate(-Math.PI / 2);
      pen.fillText(cut(column.title, 22), 0, 0);
      pen.restore();
    });
  }

  function draw() {
    readColours();
    const letters = measure();
    pen.clearRect(0, 0, canvas.width, canvas.height);
    names(letters);
    const gap = size > 14 ? 2 : 1;
    pen.lineWidth = Math.max(1, size / 11);
    for (let row = 0; row < rows.length; row += 1) {
      for (let column = 0; column < columns.length; column += 1) {
        const state = letter(row, column);
        const [ink, back] = colours[state] || [];
        const x = left + column * size;
        const y = top + row * size;
        pen.fillStyle = back || colours.line;
        pen.globalAlpha = back ? 1 : 0.35;
        pen.fillRect(x, y, size - gap, size - gap);
        pen.globalAlpha = 1;
        if (back) {
          pen.fillStyle = pen.strokeStyle = ink;
          shape(state, x + (size - gap) / 2, y + (size - gap) / 2, size / 4);
        }
        if (chosen.has(number(row, column))) frame(x, y, gap, 2);
      }
    }
    if (cursor) frame(left + cursor.column * size, top + cursor.row * size, gap, 3);
    tell();
  }

  function frame(x, y, gap, width) {
    const before = pen.lineWidth;
    pen.lineWidth = width;
    pen.strokeStyle = width > 2 ? colours.ink : colours.accent;
    pen.strokeRect(x, y, size - gap, size - gap);
    pen.lineWidth = before;
  }

  const address = (row, column) => `${rows[row].id}:${columns[column].id}`;
  const picked = () => [...chosen].map((cell) => address(Math.floor(cell / columns.length), cell % columns.length));

  function tell() {
    panel.hidden = false;
    if (cursor) {
      const state = STATES[letter(cursor.row, cursor.column)];
      panel.querySelector("output").textContent = `${rows[cursor.row].title} on ${columns[cursor.column].title}: ${state || "not run"}`;
      part("open").href = `/matrix/cell?whose=${box.dataset.whose}&cell=${encodeURIComponent(address(cursor.row, cursor.column))}`;
      part("open").textContent = state ? "Open the result" : "Open its form";
      part("pick").textContent = chosen.has(number(cursor.row, cursor.column)) ? "Leave it out" : "Choose it";
    }
    part("open").hidden = part("pick").hidden = !cursor;
    const ended = [...chosen].filter((cell) => "spf".includes(letter(Math.floor(cell / columns.length), cell % columns.length)));
    part("run").hidden = part("clear").hidden = !chosen.size;
    part("run").textContent = `Run ${chosen.size}`;
    part("compare").hidden = ended.length < 1 || chosen.size > Number(box.dataset.compared);
    part("compare").textContent = `Compare ${chosen.size}`;
  }

  function at(event) {
    const place = canvas.getBoundingClientRect();
    const column = Math.floor((event.clientX - place.left - left) / size);
    const row = Math.floor((event.clientY - place.top - top) / size);
    const inside = row >= 0 && column >= 0 && row < rows.length && column < columns.length;
    return inside ? { row, column } : null;
  }

  function rectangle(one, other) {
    for (let row = Math.min(one.row, other.row); row <= Math.max(one.row, other.row); row += 1) {
      for (let column = Math.min(one.column, other.column); column <= Math.max(one.column, other.column); column += 1) {
        chosen.add(number(row, column));
      }
    }
  }

  function toggle(cell) {
    const key = number(cell.row, cell.column);
    if (!chosen.delete(key)) chosen.add(key);
  }

  canvas.addEventListener("pointerdown", (event) => {
    drag = at(event);
    if (drag && event.pointerType === "mouse") canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointerup", (event) => {
    const here = at(event);
    if (drag && here) {
      cursor = here;
      if (event.ctrlKey || event.metaKey || event.shiftKey) toggle(here);
      else if (here.row !== drag.row || here.column !== drag.column) rectangle(drag, here);
      draw();
    }
    drag = null;
  });
  canvas.addEventListener("pointercancel", () => { drag = null; });
  canvas.addEventListener("dblclick", () => { if (cursor) part("open").click(); });
  canvas.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    const step = steps[event.key];
    if (step) {
      const from = cursor || { row: 0, column: 0 };
      cursor = {
        row: Math.min(rows.length - 1, Math.max(0, from.row + step[0])),
        column: Math.min(columns.length - 1, Math.max(0, from.column + step[1])),
      };
      if (event.shiftKey) { chosen.add(number(from.row, from.column)); chosen.add(number(cursor.row, cursor.column)); }
    } else if (event.key === " " && cursor) toggle(cursor);
    else if (event.key === "Enter" && cursor) { part("open").click(); return; }
    else if (event.key === "Escape") chosen.clear();
    else return;
    event.preventDefault();
    draw();
  });
  part("pick").addEventListener("click", () => { toggle(cursor); draw(); });
  part("clear").addEventListener("click", () => { chosen.clear(); draw(); });
  part("compare").addEventListener("click", () => {
    window.location.assign(`/matrix/compare?whose=${box.dataset.whose}&${picked().map((cell) => `cell=${encodeURIComponent(cell)}`).join("&")}`);
  });
  panel.addEventListener("submit", () => { panel.querySelector("input[name=cells]").value = picked().join(" "); });

  async function follow() {
    if (document.hidden) { window.setTimeout(follow, PAUSE); return; }
    const began = performance.now();
    try {
      const answer = await fetch(`${box.dataset.states}&seen=${box.dataset.seen}`);
      if (answer.status !== 200 || answer.redirected) return;
      const [tag, ...lines] = (await answer.text()).split("\n");
      if (lines.length !== rows.length || lines[0].length !== columns.length) { window.location.reload(); return; }
      box.dataset.seen = tag;
      lines.forEach((line, row) => { rows[row].cells = line; });
      for (const [place, state] of Object.values(STATES).entries()) {
        const key = Object.keys(STATES).find((one) => STATES[one] === state);
        const count = lines.reduce((sum, line) => sum + line.split(key).length - 1, 0);
        document.querySelectorAll(".legend b")[place].textContent = count;
      }
      draw();
    } catch { /* the next time */ } finally {
      // What takes long is asked for less often.
      window.setTimeout(follow, Math.max(PAUSE, 20 * (performance.now() - began)));
    }
  }

  canvas.tabIndex = 0;
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label", `${rows.length} protocols against ${columns.length} datasets`);
  const holder = document.createElement("div");
  holder.className = "scroll";
  holder.append(canvas);
  box.querySelector(".letters").hidden = true;
  box.prepend(holder);
  draw();
  window.addEventListener("resize", draw);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  window.setTimeout(follow, PAUSE);
})();
