// The list of jobs, which keeps itself up to date over one stream.
import { badge, fill } from "./api.js";

export function start(table) {
  if (!table.dataset.live) return;
  const source = new EventSource("/api/v1/events");
  source.addEventListener("job", (event) => {
    const job = JSON.parse(event.data);
    const row = table.querySelector(`[data-job="${CSS.escape(job.id)}"]`);
    if (!row) {
      if (job.new) location.reload();
      return;
    }
    if (job.gone) return row.remove();
    badge(row, job.state);
    fill(row, job.summary);
    spark(row.querySelector('[data-field="spark"]'), job.summary.best_rewards ?? []);
  });
  addEventListener("pagehide", () => source.close());
}

function spark(cell, values) {
  const known = values.filter((value) => value != null);
  if (known.length < 2) return;
  const low = Math.min(...known);
  const span = Math.max(...known) - low || 1;
  const points = known.map((v, i) => `${(100 * i) / (known.length - 1)},${22 - (20 * (v - low)) / span}`);
  let line = cell.querySelector("polyline");
  if (!line) {
    const name = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(name, "svg");
    svg.setAttribute("class", "spark");
    svg.setAttribute("viewBox", "0 0 100 24");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    line = document.createElementNS(name, "polyline");
    svg.append(line);
    cell.append(svg);
  }
  line.setAttribute("points", points.join(" "));
}
