// Candidates of several jobs in one plot.
import { ask } from "./api.js";
import { colours, draw, front, layout, thinned } from "./plots.js";

export async function start(plot) {
  const ids = plot.dataset.ids.split(" ");
  const all = await Promise.allSettled(ids.map((id) => ask(`/jobs/${id}/candidates`)));
  const names = [...document.querySelectorAll("thead th a")].map((link) => link.textContent);
  const render = () => {
    const c = colours();
    const palette = [c.accent, c.warn, c.good, c.bad];
    const traces = all.flatMap((one, place) => {
      if (one.status !== "fulfilled") return [];
      const data = one.value;
      const shown = data.kb.map((_, i) => i).filter((i) => !data.failed[i] && data.expected[i] != null);
      const best = front(data.kb, data.expected, shown);
      const drawn = thinned(shown, new Set(best));
      const points = (list) => ({ x: list.map((i) => data.kb[i]), y: list.map((i) => 100 * data.expected[i]) });
      const colour = palette[place % palette.length];
      return [
        { ...points(drawn), mode: "markers", name: names[place], marker: { color: colour, opacity: 0.5 } },
        { ...points(best), mode: "lines", showlegend: false, line: { color: colour, shape: "hv" } },
      ];
    });
    draw(plot, traces, layout("KB of the student", "accuracy, %"));
  };
  addEventListener("themechange", render);
  render();
}
