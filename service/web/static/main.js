// The page's script: one module for each kind of page, loaded where it is needed.
import { say } from "./api.js";

const theme = document.getElementById("theme");
const root = document.documentElement;
const kept = localStorage.getItem("theme");
if (kept) root.dataset.theme = kept;
theme.hidden = false;
theme.addEventListener("click", () => {
  const dark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
  dispatchEvent(new Event("themechange"));
});

const pages = {
  jobs: "./jobs.js",
  job: "./job.js",
  thresholds: "./thresholds.js",
  deferral: "./router.js",
  try: "./try.js",
  compared: "./compare.js",
  new: "./new.js",
};
for (const [id, path] of Object.entries(pages)) {
  const element = document.getElementById(id);
  if (element) {
    import(path).then((page) => page.start(element)).catch((error) => say(String(error)));
  }
}
