// A new job: what is chosen is inspected at once, and limits say what they can reach.
import { ask, say } from "./api.js";
import { dropping } from "./try.js";

export function start(form) {
  for (const box of form.querySelectorAll(".drop")) dropping(box, box.querySelector("input"));
  const teacher = form.elements.teacher;
  teacher.addEventListener("change", () => {
    if (!teacher.value) return;
    const chosen = new URLSearchParams({ teacher: teacher.value, data: form.elements.data.value });
    location.search = chosen;
  });
  form.elements.max_kb.addEventListener("input", debounced(() => reach(form)));
  form.addEventListener("submit", () => say("Uploading and checking"));
  reach(form);
}

async function reach(form) {
  const box = document.getElementById("reach");
  const id = form.elements.teacher.value;
  if (!id) return;
  try {
    const found = await ask(`/teachers/${id}`);
    const whole = found.facts.kb;
    const text = Number(form.elements.max_kb.value);
    box.textContent = text ? `≤ ${text} KB: the teacher has ${whole.toFixed(0)} KB, so C₀ is ${(1 - text / whole).toFixed(4)}` : `The teacher has ${whole.toFixed(0)} KB.`;
  } catch (error) {
    box.textContent = error.message;
  }
}

function debounced(action) {
  let timer;
  return () => { clearTimeout(timer); timer = setTimeout(action, 200); };
}
