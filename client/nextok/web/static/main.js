// The page: puts its parts together, and keeps what both modes share.

import { Branches } from "./branches.js";
import { Chart } from "./chart.js";
import { announce, byId } from "./dom.js";
import { Generate } from "./generate.js";
import { Inspector } from "./inspector.js";
import { Sampling } from "./sampling.js";
import { Score } from "./score.js";
import { ServerState } from "./server_state.js";
import { packState, unpackState } from "./share.js";
import { TextView } from "./text_view.js";

const FIRST_PROMPT = "Once upon a time";
const WORDS = {
  generate: { label: "Prompt", run: "Generate", rows: 2 },
  score: { label: "Text", run: "Score", rows: 5 },
};

let mode = "generate";
const drafts = { generate: FIRST_PROMPT, score: "" };
const prompt = byId("prompt");

const page = {
  mode: () => mode,
  note: (text) => {
    byId("note").textContent = text;
  },
  fail: (error) => {
    byId("error").hidden = !error;
    byId("error").textContent = error?.message ?? "";
  },
  runs: (running) => {
    byId("run").textContent = running ? "Stop" : WORDS[mode].run;
    byId("run").classList.toggle("running", running);
    if (running) page.note("");
  },
  server: new ServerState(),
  text: new TextView(byId("text"), (place) => current().select(place)),
  chart: new Chart((place) => current().select(place)),
  sampling: new Sampling(() => generate.samplingChanged()),
  inspector: new Inspector({
    take: (candidate) => generate.take(candidate),
    resample: () => generate.resample(),
  }),
  branches: new Branches({
    visit: (end) => generate.visit(end),
    remove: (node) => generate.remove(node),
  }),
};
const generate = new Generate(page);
const score = new Score(page);
const current = () => (mode === "score" ? score : generate);

function switchTo(next) {
  if (next === mode) return;
  current().stop();
  drafts[mode] = prompt.value;
  mode = next;
  prompt.value = drafts[mode];
  showMode();
  current().show();
}

function showMode() {
  byId("main").dataset.mode = mode;
  byId("main").setAttribute("aria-labelledby", `tab-${mode}`);
  byId("prompt-label").textContent = WORDS[mode].label;
  prompt.rows = WORDS[mode].rows;
  for (const name of Object.keys(WORDS)) {
    byId(`tab-${name}`).setAttribute("aria-selected", String(name === mode));
    byId(`tab-${name}`).tabIndex = name === mode ? 0 : -1;
  }
  page.fail(null);
  page.note("");
  page.runs(current().running);
}

function runOrStop() {
  if (current().running) current().stop();
  else current().run();
}

async function share() {
  const state = {
    mode,
    prompt: prompt.value,
    sampling: page.sampling.values,
    max_tokens: byId("max-tokens").valueAsNumber,
    ...current().state,
  };
  history.replaceState(null, "", `#${await packState(state)}`);
  try {
    await navigator.clipboard.writeText(location.href);
    page.note("Link copied");
  } catch {
    page.note("The address has the link now"); // the clipboard may be out of reach
  }
}

async function restore() {
  const fragment = location.hash.slice(1);
  if (!fragment.includes(".")) return false;
  try {
    const state = await unpackState(fragment);
    drafts[state.mode] = state.prompt;
    mode = state.mode;
    prompt.value = state.prompt;
    page.sampling.set(state.sampling);
    if (state.max_tokens > 0) byId("max-tokens").value = state.max_tokens;
    showMode();
    if (mode === "generate") await generate.restore(state);
    else await score.run();
    if (mode === "score") score.select(state.selected);
    return true;
  } catch (error) {
    page.fail(error);
    return false;
  }
}

prompt.addEventListener("input", () => {
  if (mode === "generate") generate.setPrompt(prompt.value);
});
byId("run").addEventListener("click", runOrStop);
byId("share").addEventListener("click", share);
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) runOrStop();
  else if (event.key === "Escape" && current().running) current().stop();
  else return;
  event.preventDefault();
});
for (const name of Object.keys(WORDS)) {
  const tab = byId(`tab-${name}`);
  tab.addEventListener("click", () => switchTo(name));
  tab.addEventListener("keydown", (event) => {
    if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return;
    switchTo(name === "generate" ? "score" : "generate");
    byId(`tab-${mode}`).focus();
  });
}
window.addEventListener("hashchange", restore);

page.server.begin();
if (!(await restore())) {
  prompt.value = drafts[mode];
  generate.setPrompt(FIRST_PROMPT);
}
announce("nextok is ready");
