// The theme, before anything is drawn: as the system, light or dark.
"use strict";
{
  const names = ["system", "light", "dark"];
  const root = document.documentElement;
  const stored = () => {
    try {
      return localStorage.getItem("nextok-theme");
    } catch {
      return null; // storage may be turned off
    }
  };
  const show = (name) => {
    root.dataset.theme = name;
    const button = document.getElementById("theme");
    if (!button) return;
    button.setAttribute("aria-label", `Theme: ${name === "system" ? "as the system" : name}`);
    button.title = button.getAttribute("aria-label");
  };
  const first = stored();
  show(names.includes(first) ? first : "system");
  document.addEventListener("DOMContentLoaded", () => {
    show(root.dataset.theme);
    document.getElementById("theme").addEventListener("click", () => {
      const next = names[(names.indexOf(root.dataset.theme) + 1) % names.length];
      show(next);
      try {
        localStorage.setItem("nextok-theme", next);
      } catch {
        // it lasts as long as the page does
      }
    });
  });
}
