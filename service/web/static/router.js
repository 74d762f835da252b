// The router's curve, and its threshold under the hand.
import { ask, percent } from "./api.js";
import { colours, draw, layout } from "./plots.js";

export async function start(plot) {
  const { deferral: d } = await ask(`/jobs/${plot.dataset.id}/routers`);
  const slider = document.getElementById("f-appeals");
  const render = () => {
    const at = nearest(d.appeals, Number(slider.value));
    const c = colours();
    const x = d.appeals.map((v) => 100 * v);
    const line = (y, name, colour, dash) => ({ x, y: y.map((v) => 100 * v), mode: "lines", name, line: { color: colour, dash, width: 2 } });
    draw(plot, [
      line(d.accuracy, d.router.name, c.accent), line(d.oracle, "oracle", c.good, "dash"), line(d.random, "chance", c.muted, "dot"),
      { x: [x[at]], y: [100 * d.accuracy[at]], mode: "markers", name: "threshold", marker: { color: c.warn, size: 13, symbol: "diamond" } },
    ], layout("inputs appealed, %", "accuracy of the pair, %"));
    slider.parentElement.querySelector("output").textContent = percent(d.appeals[at]);
    const upper = d.trusted_error_upper?.[at];
    document.getElementById("point").textContent = `The pair is right on ${percent(d.accuracy[at])}; of the answers that it trusts ${percent(d.trusted_error[at])} are wrong${upper == null ? "" : ` (at most ${percent(upper)}, with 95 % confidence)`}.`;
  };
  slider.addEventListener("input", render);
  plot.on?.("plotly_click", () => {});
  addEventListener("themechange", render);
  render();
  plot.on("plotly_click", (event) => { slider.value = event.points[0].x / 100; render(); });
}

function nearest(values, wanted) {
  let best = 0;
  values.forEach((value, index) => { if (Math.abs(value - wanted) < Math.abs(values[best] - wanted)) best = index; });
  return best;
}
