// Sliders that rank a job's candidates as they move.
import { ask, element, kb, percent, say } from "./api.js";
import { colours, draw, layout, scatter } from "./plots.js";

let data = null;
let form = null;
let last = 0;

export async function start(found) {
  form = found;
  data = await ask(`/jobs/${form.dataset.id}/candidates`);
  form.addEventListener("input", (event) => {
    const input = event.target;
    delete input.dataset.free;
    const output = input.parentElement.querySelector("output");
    if (output) output.textContent = input.value;
    rank();
  });
  form.addEventListener("submit", (event) => { event.preventDefault(); rank(); });
  addEventListener("themechange", rank);
  await rank();
}

function fields() {
  const given = {};
  for (const input of form.querySelectorAll("input[type=range]")) {
    if (!input.dataset.free) given[input.name] = Number(input.value);
  }
  if (form.elements.target.value !== data.limits.target) given.target = form.elements.target.value;
  return given;
}

async function rank() {
  const mine = ++last;
  const given = fields();
  document.querySelector('#finalize [name="fields"]').value = JSON.stringify(given);
  let result;
  try {
    result = await ask(`/jobs/${form.dataset.id}/rerank`, { method: "POST", json: given });
  } catch (error) {
    if (mine === last) document.getElementById("ranked").replaceChildren(element("p", { class: "problem" }, error.message));
    return;
  }
  if (mine !== last) return; // another came after it
  performance.mark("ranked");
  show(result);
  region(result);
}

function show(result) {
  const row = (name, one) => element("tr", {}, element("th", { scope: "row" }, `${name}: candidate ${one.number}`),
    element("td", { class: "number" }, kb(one.kb)), element("td", { class: "number" }, percent(one.expected)), element("td", { class: "number" }, one.reward.toFixed(4)));
  const heads = ["", "KB", "Expected", "Reward"].map((text) => text ? element("th", { scope: "col", class: "number" }, text) : element("td"));
  const table = element("table", {}, element("caption", {}, result.changed ? "Another winner" : "The same winner"),
    element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, row("Before", result.before.winner), row("Now", result.after.winner)));
  const list = element("ul", {}, ...result.why.map((line) => element("li", {}, line)));
  document.getElementById("ranked").replaceChildren(table, list);
  scatter(document.getElementById("scatter"), { ...data, limits: { max_kb: result.after.max_kb } }, [
    { index: result.before.winner.number - 1, name: "old winner", colour: "bad", symbol: "circle-open" },
    { index: result.after.winner.number - 1, name: "new winner", colour: "warn", symbol: "star" },
  ]);
  say(`candidate ${result.after.winner.number}`);
}

// which thresholds choose the same winner: the reward of every candidate that may win, on a grid
function region(result) {
  const box = document.getElementById("region").parentElement;
  const set = result.after;
  const bends = set.reward === "threshold" && set.c0 != null && set.a0 != null;
  box.hidden = !bends;
  if (!bends) return;
  const may = data.kb.map((_, i) => i).filter((i) => result.eligible[i] && data.expected[i] != null);
  const c = may.map((i) => 1 - data.kb[i] / data.teacher.kb);
  const a = may.map((i) => data.expected[i]);
  const part = (value, least, weight) => (value < least ? weight : set.rho * weight) * (value - least);
  const grid = 60;
  const low = Math.max(0, Math.min(...c) - 0.02);
  const lowA = Math.max(0, Math.min(...a) - 0.02);
  const xs = Array.from({ length: grid }, (_, i) => low + ((1 - low) * i) / (grid - 1));
  const ys = Array.from({ length: grid }, (_, i) => lowA + ((1 - lowA) * i) / (grid - 1));
  const winner = may.indexOf(set.winner.number - 1);
  const z = ys.map((a0) => xs.map((c0) => {
    let best = -Infinity, which = -1;
    for (let i = 0; i < may.length; i++) {
      const value = part(c[i], c0, set.alpha) + part(a[i], a0, set.beta);
      if (value > best) { best = value; which = i; }
    }
    return which === winner ? 1 : 0;
  }));
  const colour = colours();
  draw(document.getElementById("region"), [
    { z, x: xs, y: ys.map((v) => 100 * v), type: "heatmap", showscale: false, colorscale: [[0, colour.line], [1, colour.accent]], hoverinfo: "skip" },
    { x: [set.c0], y: [100 * set.a0], mode: "markers", marker: { symbol: "cross", size: 14, color: colour.warn }, name: "now" },
  ], layout("C₀", "A₀, %"));
}
