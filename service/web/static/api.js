// Requests to the service, and words on the page.
const csrf = document.querySelector("meta[name=csrf]").content;

export function say(text) {
  document.getElementById("status").textContent = text;
}

export async function ask(path, options = {}) {
  const headers = { Accept: "application/json", ...options.headers };
  if (options.method && options.method !== "GET") headers["X-CSRF-Token"] = csrf;
  if (options.json !== undefined) {
    headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(options.json);
  }
  const response = await fetch(`/api/v1${path}`, { ...options, headers });
  const body = response.status === 204 ? null : await response.json();
  if (!response.ok) throw new Error(body?.detail ?? response.statusText);
  return body;
}

export const percent = (value) => (value == null ? "–" : `${(100 * value).toFixed(2)} %`);
export const kb = (value) =>
  value == null ? "–" : value.toLocaleString("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") made.className = value;
    else if (value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

export function fill(parent, summary) {
  const texts = {
    candidates: summary.candidates == null ? "–" : summary.candidates + (summary.budget ? `/${summary.budget}` : ""),
    student_kb: kb(summary.student_kb),
    student_accuracy: percent(summary.student_accuracy),
    pair_accuracy: percent(summary.pair_accuracy),
    teacher_accuracy: percent(summary.teacher_accuracy),
    appeals: percent(summary.appeals),
  };
  for (const [name, text] of Object.entries(texts)) {
    for (const field of parent.querySelectorAll(`[data-field="${name}"]`)) field.textContent = text;
  }
}

export function badge(parent, state) {
  for (const mark of parent.querySelectorAll('.badge[data-field="state"]')) {
    mark.textContent = state;
    mark.className = `badge ${state}`;
  }
}
