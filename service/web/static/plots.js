// Plots in the page's own colours.
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export function colours() {
  return {
    ink: css("--ink"), muted: css("--muted"), line: css("--line"), accent: css("--accent"),
    good: css("--good"), bad: css("--bad"), warn: css("--warn"), ground: css("--ground"),
  };
}

// beyond so many points only a part is drawn: the front, the winners and every n-th of the others
const MOST = 2000;

export function thinned(indices, keep) {
  if (indices.length <= MOST) return indices;
  const step = Math.ceil(indices.length / MOST);
  return indices.filter((index, place) => place % step === 0 || keep.has(index));
}

export function layout(x, y, more = {}) {
  const c = colours();
  const axis = { gridcolor: c.line, zerolinecolor: c.line, linecolor: c.muted, automargin: true };
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: c.ink, family: "system-ui, sans-serif", size: 13 },
    margin: { l: 55, r: 15, t: 15, b: 45 }, hovermode: "closest",
    legend: { orientation: "h", y: 1.12 },
    xaxis: { ...axis, title: { text: x } }, yaxis: { ...axis, title: { text: y } },
    ...more,
  };
}

export function draw(element, traces, shape) {
  const config = { displayModeBar: false, responsive: true };
  element.setAttribute("role", "group"); // its parts may be pointed at, which those of an image may not
  const drawn = window.Plotly.react(element, traces, shape, config);
  performance.mark("plot-drawn");
  return drawn;
}

// candidates that no other is both smaller and better than
export function front(kb, accuracy, among) {
  const order = [...among].sort((a, b) => kb[a] - kb[b] || accuracy[b] - accuracy[a]);
  const found = [];
  let best = -1;
  for (const index of order) {
    if (accuracy[index] > best) {
      found.push(index);
      best = accuracy[index];
    }
  }
  return found;
}

export function hypervolume(kb, accuracy, front_, most) {
  let volume = 0;
  front_.forEach((index, place) => {
    const next = place + 1 < front_.length ? kb[front_[place + 1]] : most;
    volume += (Math.max(next - kb[index], 0) / most) * accuracy[index];
  });
  return volume;
}

export function scatter(element, data, marks = []) {
  const c = colours();
  const shown = data.kb.map((_, i) => i).filter((i) => !data.failed[i] && data.expected[i] != null);
  const best = front(data.kb, data.expected, shown);
  const keep = new Set([...best, ...marks.map((mark) => mark.index)]);
  const drawn = thinned(shown, keep);
  const name = (i) => `candidate ${data.number[i]}<br>${data.kb[i].toFixed(1)} KB, expected ${(100 * data.expected[i]).toFixed(2)} %`
    + (data.measured[i] == null ? "" : `<br>reached ${(100 * data.measured[i]).toFixed(2)} %`);
  const points = (indices) => ({
    x: indices.map((i) => data.kb[i]), y: indices.map((i) => 100 * data.expected[i]),
    text: indices.map(name), customdata: indices, hoverinfo: "text", type: "scatter",
  });
  const full = drawn.filter((i) => data.measured[i] != null);
  const traces = [
    { ...points(drawn), mode: "markers", name: "candidates", marker: { color: c.muted, size: 7, opacity: 0.7 } },
    { ...points(best), mode: "lines", name: "Pareto front", line: { color: c.accent, shape: "hv", width: 2 }, hoverinfo: "skip" },
    { ...points(full), mode: "markers", name: "trained in full", marker: { color: c.good, size: 10, symbol: "diamond" } },
    ...marks.map((mark) => ({ ...points([mark.index]), mode: "markers", name: mark.name, marker: { color: c[mark.colour], size: 15, symbol: mark.symbol, line: { color: c.ink, width: 1 } } })),
  ];
  const shapes = [];
  if (data.limits?.max_kb) {
    shapes.push({ type: "line", x0: data.limits.max_kb, x1: data.limits.max_kb, yref: "paper", y0: 0, y1: 1, line: { color: c.bad, dash: "dot", width: 1 } });
  }
  draw(element, traces, layout("KB of the student", "accuracy, %", { shapes }));
  return best;
}
