// Lists samples: chooses a set, sorts, filters, draws search trees. Text is only ever set as text.
// The choices are kept in the address, so that a page that loads itself again, or a link, shows the same.
const data = JSON.parse(document.getElementById("data").textContent);
const pictures = JSON.parse(document.getElementById("pictures").textContent);
const nameOf = (one) => `${one.stage}: ${one.set}`;
const choices = ["set", "sort", "filter"];
let shown = 20;
let follow = "";
// Answers to one prompt at several moments: of an evaluation in every stage, of training within a stage.
const promptOf = (one) => JSON.stringify([one.evaluation, one.evaluation ? "" : one.stage, one.task]);
const moments = new Map();
for (const one of data) moments.set(promptOf(one), (moments.get(promptOf(one)) || new Set()).add(nameOf(one)));
const textOf = (one) => one.turns.map((turn) => `${turn.prompt}\n${turn.text}`).join("\n");
const orders = {
  worst: (a, b) => a.reward - b.reward,
  best: (a, b) => b.reward - a.reward,
  change: (a, b) => Math.abs(b.change || 0) - Math.abs(a.change || 0),
  long: (a, b) => textOf(b).length - textOf(a).length,
};
function addPictures(parent, digests) {
  for (const digest of digests.filter((one) => pictures[one])) {
    const image = add(parent, "img", "");
    image.src = `data:image/jpeg;base64,${pictures[digest]}`;
    image.alt = `image ${digest.slice(0, 8)}`;
  }
}
function card(one) {
  const made = document.createElement("article");
  const levels = Object.entries(one.levels).map(([name, value]) => `${name} ${value}`).join(", ");
  const change = one.change ? `, ${one.change > 0 ? "+" : ""}${one.change} since ${one.since}` : "";
  if (follow) add(made, "p", nameOf(one), "turn");
  add(made, "p", `reward ${one.reward}${change}${levels ? ` (${levels})` : ""}`, "reward");
  if (one.problem) add(made, "p", one.problem);
  addPictures(made, one.images);
  one.turns.forEach((turn, number) => {
    if (one.turns.length > 1) add(made, "p", `turn ${number + 1}`, "turn");
    add(made, "pre", turn.prompt);
    add(made, "pre", turn.text);
  });
  if (one.right !== null) add(made, "p", `right answer: ${one.right}`);
  const times = moments.get(promptOf(one)).size;
  if (!follow && times > 1) {
    add(made, "button", `This prompt at ${times} moments`).addEventListener("click", () => { follow = promptOf(one); begin(); at("back").focus(); });
  }
  return made;
}
// The parts of a leaf that other leaves may share: its turns, or the lines of its transcript.
const partsOf = (one) =>
  one.turns.length > 1 ? one.turns.map((turn) => turn.text) : one.turns[0].text.split(/\n+|(?<=>)(?=<)/).filter((line) => line.trim());
function branch(leaves, depth) {
  const list = document.createElement("ul");
  list.className = "tree";
  const groups = new Map();
  for (const leaf of leaves) {
    const key = leaf.parts[depth];
    groups.set(key, [...(groups.get(key) || []), leaf]);
  }
  for (const [first, group] of groups) {
    const item = add(list, "li", "");
    let end = depth;
    while (first !== undefined && group.every((leaf) => leaf.parts[end] !== undefined && leaf.parts[end] === group[0].parts[end])) end += 1;
    const mean = group.reduce((sum, leaf) => sum + leaf.one.reward, 0) / group.length;
    if (end > depth) add(item, "pre", group[0].parts.slice(depth, end).join("\n"));
    const ended = group.filter((leaf) => leaf.parts.length <= end);
    for (const leaf of ended) add(item, "p", `reward ${leaf.one.reward}`, "reward");
    const rest = group.filter((leaf) => leaf.parts.length > end);
    if (rest.length) {
      add(item, "p", `${rest.length} ${rest.length > 1 ? "leaves" : "leaf"} below, mean reward ${mean.toFixed(3)}`, "turn");
      item.append(branch(rest, end));
    }
  }
  return list;
}
function treeCard(leaves) {
  const made = document.createElement("article");
  const mean = leaves.reduce((sum, one) => sum + one.reward, 0) / leaves.length;
  add(made, "p", `tree ${leaves[0].tree} of task ${leaves[0].task}: ${leaves.length} leaves, mean reward ${mean.toFixed(3)}`, "reward");
  addPictures(made, leaves[0].images);
  add(made, "pre", leaves[0].turns[0].prompt);
  made.append(branch(leaves.map((one) => ({ one, parts: partsOf(one) })), 0));
  if (leaves[0].right !== null) add(made, "p", `right answer: ${leaves[0].right}`);
  return made;
}
function cards(found) {
  if (!at("tree").checked) return found.map((one) => () => card(one));
  const trees = new Map();
  for (const one of found) {
    const key = `${one.task}/${one.tree}`;
    trees.set(key, [...(trees.get(key) || []), one]);
  }
  return [...trees.values()].map((leaves) => () => treeCard(leaves));
}
function list() {
  const word = at("filter").value.toLowerCase();
  const ofSet = data.filter((one) => (follow ? promptOf(one) === follow : nameOf(one) === at("set").value));
  at("back").hidden = !follow;
  for (const id of choices) at(id).disabled = Boolean(follow);
  const changes = at("sort").querySelector("[value=change]");
  changes.hidden = changes.disabled = !ofSet.some((one) => one.since);
  if (changes.disabled && changes.selected) at("sort").value = "worst";
  const searched = ofSet.some((one) => one.tree !== null);
  at("trees").hidden = !searched;
  if (!searched) at("tree").checked = false;
  // the data has the latest moment first
  const found = follow ? ofSet.reverse() : ofSet.filter((one) => textOf(one).toLowerCase().includes(word)).sort(orders[at("sort").value]);
  const made = cards(found);
  at("list").replaceChildren(...made.slice(0, shown).map((make) => make()));
  at("count").textContent = `${Math.min(shown, made.length)} of ${made.length}`;
  at("more").hidden = made.length <= shown;
}
function remember() {
  const state = new URLSearchParams(choices.map((id) => [id, at(id).value]));
  if (at("tree").checked) state.set("tree", "1");
  if (follow) state.set("follow", follow);
  history.replaceState(null, "", `#${state}`);
}
function recall() {
  const state = new URLSearchParams(location.hash.slice(1));
  for (const id of choices) if (state.has(id)) at(id).value = state.get(id);
  if (at("set").selectedIndex < 0) at("set").selectedIndex = 0;
  if (!orders[at("sort").value]) at("sort").value = "worst";
  at("tree").checked = state.has("tree");
  follow = moments.has(state.get("follow")) ? state.get("follow") : "";
}
function begin() {
  shown = 20;
  list();
  remember();
}
if (data.length) {
  for (const name of new Set(data.map(nameOf))) add(at("set"), "option", name).value = name;
  recall();
  for (const id of [...choices, "tree"]) at(id).addEventListener("input", begin);
  at("back").addEventListener("click", () => { follow = ""; begin(); });
  at("more").addEventListener("click", () => { shown += 50; list(); });
  list();
}
const every = Number(document.body.dataset.live);
const quiet = every ? Math.round((Date.now() - Date.parse(at("written").dateTime)) / 60000) : 0;
if (quiet > 5) at("written").textContent += `, ${quiet} minutes ago (the run may have stopped)`;
if (every) setInterval(() => { if (!document.activeElement.closest("#toolbar")) location.reload(); }, 1000 * every);
