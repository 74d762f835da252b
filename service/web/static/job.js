// One job: its plots and figures follow its events.
import { ask, badge, element, fill, kb, percent, say } from "./api.js";
import { colours, draw, hypervolume, layout, scatter } from "./plots.js";

let data = null;
let page = null;
const running = new Map();

export async function start(found) {
  page = found;
  await refresh();
  addEventListener("themechange", render);
  if (page.dataset.ended) return;
  const source = new EventSource(`/api/v1/jobs/${page.dataset.id}/events?from=${page.dataset.offset}`);
  source.onmessage = (event) => told(JSON.parse(event.data));
  source.addEventListener("job", (event) => changed(JSON.parse(event.data)));
  source.addEventListener("end", () => { source.close(); location.reload(); });
  addEventListener("pagehide", () => source.close());
}

async function refresh() {
  try {
    data = await ask(`/jobs/${page.dataset.id}/candidates`);
  } catch {
    return; // there is none yet
  }
  render();
}

function render() {
  if (!data || !window.Plotly) return;
  const marks = data.winner == null ? [] : [{ index: data.winner, name: "winner", colour: "warn", symbol: "star" }];
  const plot = document.getElementById("scatter");
  const best = scatter(plot, data, marks);
  plot.removeAllListeners?.("plotly_click");
  plot.on("plotly_click", (event) => layers(event.points[0].customdata));
  const volume = hypervolume(data.kb, data.expected, best, data.teacher.kb);
  document.getElementById("hypervolume").textContent = volume.toFixed(4);
  let top = -Infinity;
  const rewards = data.reward.map((value) => (top = Math.max(top, value ?? -Infinity)));
  draw(document.getElementById("rewards"), [{ x: data.number, y: rewards, mode: "lines", line: { shape: "hv", color: colours().accent }, name: "best reward" }],
    layout("candidate", "best reward"));
}

function layers(index) {
  const box = document.getElementById("layers");
  const rows = data.layers.map((name, place) => element("tr", {}, element("th", { scope: "row" }, name),
    element("td", { class: "number" }, data.coefficients[index][place] === 0 ? "removed" : String(data.coefficients[index][place]))));
  const head = element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "Layer of the teacher"), element("th", { scope: "col", class: "number" }, "Share kept")));
  const caption = element("caption", {}, `Candidate ${data.number[index]}: ${kb(data.kb[index])} KB, expected ${percent(data.expected[index])}`);
  box.replaceChildren(element("table", {}, caption, head, element("tbody", {}, ...rows)));
  box.hidden = false;
}

let waiting = null;

function told(event) {
  if (event.kind === "stage") {
    document.getElementById("stage").textContent = event.detail ? `${event.name}: ${event.detail}` : event.name;
    say(event.name);
  } else if (event.kind === "progress") {
    document.getElementById("running").textContent = `${event.text}: ${event.done.toLocaleString("en")} of ${event.total.toLocaleString("en")}`;
  } else if (event.kind === "candidate_running") {
    running.set(event.key, event);
    lively();
  } else if (event.kind === "candidate_done") {
    running.delete(event.key);
    lively();
    page.querySelector('[data-field="candidates"]').textContent = `${event.number}/${event.budget}`;
    // the ledger is read anew at most twice a second, however fast candidates come
    waiting ??= setTimeout(() => { waiting = null; refresh(); }, 400);
  } else if (event.kind === "note" && event.warning) {
    const list = document.getElementById("warnings");
    list.hidden = false;
    list.append(element("li", {}, element("strong", {}, event.name), ` ${event.text}`));
  }
}

function lively() {
  const texts = [...running.values()].map((one) => `${kb(one.kb)} KB: epoch ${one.epoch} of ${one.epochs}${one.accuracy == null ? "" : `, ${percent(one.accuracy)}`}`);
  document.getElementById("running").textContent = texts.length ? `Under way: ${texts.join(" · ")}` : "";
}

function changed(job) {
  badge(page, job.state);
  fill(page, job.summary);
  document.getElementById("stage").textContent = job.stage;
  const eta = job.summary.eta_seconds;
  document.getElementById("eta").textContent = eta ? `about ${Math.max(1, Math.round(eta / 60))} min left` : "";
  let passed = true;
  for (const stage of page.querySelectorAll("[data-stage]")) {
    stage.removeAttribute("aria-current");
    if (stage.dataset.stage === job.state) {
      stage.setAttribute("aria-current", "step");
      passed = false;
    }
    stage.classList.toggle("passed", passed);
  }
}
