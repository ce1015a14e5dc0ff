"use strict";
// Values of a chart at the pointer or at the arrow keys, and tables that sort. Text is only ever set as text.
const at = (id) => document.getElementById(id);
function add(parent, tag, text, kind) {
  const made = document.createElement(tag);
  made.textContent = text;
  if (kind) made.className = kind;
  parent.append(made);
  return made;
}
const pairsOf = (text) => text.split(" ").map((pair) => pair.split(",").map(Number));
const visible = (line) => getComputedStyle(line).display !== "none";
function linesOf(svg) {
  svg.lines ||= [...svg.querySelectorAll("polyline")].map((line) => ({
    line, values: pairsOf(line.dataset.values), pixels: pairsOf(line.getAttribute("points")),
  }));
  return svg.lines;
}
function nearest(pairs, x) {
  let best = 0;
  for (let i = 1; i < pairs.length; i += 1) if (Math.abs(pairs[i][0] - x) < Math.abs(pairs[best][0] - x)) best = i;
  return best;
}
function draw(svg, tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  svg.append(made);
}
function clear(svg) {
  for (const mark of svg.querySelectorAll(".cross, circle")) mark.remove();
}
// Shows the values at x; the first curve decides which x there are.
function show(svg, x) {
  clear(svg);
  const output = svg.parentElement.querySelector("output");
  output.first ??= output.textContent;
  const [first] = linesOf(svg);
  svg.place = nearest(first.values, x);
  const across = first.pixels[svg.place][0];
  draw(svg, "path", { class: "cross", d: `M${across} 10V138` });
  output.textContent = `${svg.dataset.unit} ${first.values[svg.place][0]}`;
  for (const { line, values, pixels } of linesOf(svg)) {
    if (!visible(line)) continue;
    const i = nearest(values, first.values[svg.place][0]);
    draw(svg, "circle", { class: line.classList[0], cx: pixels[i][0], cy: pixels[i][1], r: 2.5 });
    const name = [line.dataset.name, line.classList.contains("smooth") ? "smoothed" : ""].filter((one) => one).join(" ");
    add(output, "span", ` ${name} ${values[i][1]}`, line.classList[0]);
  }
}
function hide(svg) {
  clear(svg);
  const output = svg.parentElement.querySelector("output");
  if (output.first !== undefined) output.textContent = output.first;
}
for (const svg of document.querySelectorAll("figure svg")) {
  svg.addEventListener("pointermove", (event) => {
    const [{ pixels, values }] = linesOf(svg);
    const box = svg.getBoundingClientRect();
    show(svg, values[nearest(pixels, (event.clientX - box.left) / box.width * 320)][0]);
  });
  svg.addEventListener("pointerleave", () => hide(svg));
  svg.addEventListener("blur", () => hide(svg));
  svg.addEventListener("keydown", (event) => {
    const [{ values }] = linesOf(svg);
    const last = values.length - 1;
    const place = svg.place ?? last;
    const to = { ArrowLeft: place - 1, ArrowRight: place + 1, Home: 0, End: last, PageUp: place - 10, PageDown: place + 10 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    show(svg, values[Math.max(0, Math.min(last, to))][0]);
  });
}
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const keyOf = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const compare = (a, b) => keyOf(a, column).localeCompare(keyOf(b, column), undefined, { numeric: true });
      const numeric = (a, b) => Number(keyOf(a, column)) - Number(keyOf(b, column));
      const rows = [...table.tBodies[0].rows];
      const order = rows.every((row) => !Number.isNaN(Number(keyOf(row, column)))) ? numeric : compare;
      table.tBodies[0].append(...rows.sort((a, b) => (down ? order(b, a) : order(a, b))));
    });
  });
}
