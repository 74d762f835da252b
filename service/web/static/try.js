// Images that a finished job answers, without leaving the page.
import { ask, element, percent, say } from "./api.js";

export function start(form) {
  const input = form.querySelector("input[type=file]");
  dropping(form.querySelector(".drop"), input);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = new FormData();
    const files = new Map();
    for (const file of input.files) {
      body.append("images", file);
      files.set(file.name, file);
    }
    const box = document.getElementById("answers");
    try {
      const { answers } = await ask(`/jobs/${form.dataset.id}/predict`, { method: "POST", body });
      box.replaceChildren(...answers.map((row) => card(row, files.get(row.image))));
      say(`${answers.length} answers`);
    } catch (error) {
      box.replaceChildren(element("p", { class: "problem", role: "alert" }, error.message));
    }
  });
}

function card(row, file) {
  const made = element("article", { class: "card" }, element("h3", {}, row.image));
  if (file) {
    const image = element("img", { alt: "" });
    image.src = URL.createObjectURL(file);
    image.addEventListener("load", () => URL.revokeObjectURL(image.src));
    made.append(image);
  }
  const mark = row.student.trusted ? ["done", "trusted"] : ["failed", "appealed"];
  made.append(
    element("p", {}, "Student: ", element("b", {}, row.student.class_name), ` ${percent(row.student.probability)}`),
    element("p", {}, element("span", { class: `badge ${mark[0]}` }, mark[1]), ` higher than ${percent(row.rank)} of the calibration rows`));
  if (row.teacher) made.append(element("p", {}, "Teacher: ", element("b", {}, row.teacher.class_name), ` ${percent(row.teacher.probability)}`));
  return made;
}

export function dropping(box, input) {
  for (const name of ["dragenter", "dragover"]) box.addEventListener(name, (event) => { event.preventDefault(); box.classList.add("over"); });
  for (const name of ["dragleave", "drop"]) box.addEventListener(name, () => box.classList.remove("over"));
  box.addEventListener("drop", (event) => {
    event.preventDefault();
    input.files = event.dataTransfer.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  });
}
