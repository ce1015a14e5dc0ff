"use strict";
// Lists samples: chooses a set, sorts, filters. Text is only ever set as text.
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
let shown = 20;
const nameOf = (one) => `${one.stage}: ${one.set}`;
const textOf = (one) => one.turns.map((turn) => `${turn.prompt}\n${turn.text}`).join("\n");
const orders = {
  worst: (a, b) => a.reward - b.reward,
  best: (a, b) => b.reward - a.reward,
  change: (a, b) => Math.abs(b.change || 0) - Math.abs(a.change || 0),
  long: (a, b) => textOf(b).length - textOf(a).length,
};
function add(parent, tag, text, kind) {
  const made = document.createElement(tag);
  made.textContent = text;
  if (kind) made.className = kind;
  parent.append(made);
  return made;
}
function card(one) {
  const made = document.createElement("article");
  const levels = Object.entries(one.levels).map(([name, value]) => `${name} ${value}`).join(", ");
  const change = one.change ? `, ${one.change > 0 ? "+" : ""}${one.change} since the first evaluation` : "";
  add(made, "p", `reward ${one.reward}${change}${levels ? ` (${levels})` : ""}`, "reward");
  if (one.problem) add(made, "p", one.problem);
  one.turns.forEach((turn, number) => {
    if (one.turns.length > 1) add(made, "p", `turn ${number + 1}`, "turn");
    add(made, "pre", turn.prompt);
    add(made, "pre", turn.text);
  });
  if (one.right !== null) add(made, "p", `right answer: ${one.right}`);
  return made;
}
function list() {
  const word = at("filter").value.toLowerCase();
  const found = data.filter((one) => nameOf(one) === at("set").value && textOf(one).toLowerCase().includes(word));
  found.sort(orders[at("sort").value]);
  at("list").replaceChildren(...found.slice(0, shown).map(card));
  at("count").textContent = `${Math.min(shown, found.length)} of ${found.length}`;
  at("more").hidden = found.length <= shown;
}
if (data.length) {
  for (const name of new Set(data.map(nameOf))) add(at("set"), "option", name).value = name;
  for (const id of ["set", "sort", "filter"]) at(id).addEventListener("input", () => { shown = 20; list(); });
  at("more").addEventListener("click", () => { shown += 50; list(); });
  list();
}
