// One step: the token, its figures, and what it was chosen from, raw and after the filters.

import { byId, el } from "./dom.js";
import { hex, nats, percent, spoken, visible } from "./words.js";

export class Inspector {
  #place = byId("step");
  #title = byId("step-title");
  #take;
  #resample;

  /** Calls `take` with a candidate that a person takes, `resample` to draw the token anew. */
  constructor({ take, resample }) {
    this.#take = take;
    this.#resample = resample;
  }

  /** Shows nothing but a reason. */
  empty(reason, title = "Next token") {
    this.#title.textContent = title;
    this.#place.replaceChildren(el("p", { class: "hint" }, reason));
  }

  /**
   * Shows a step.
   * `chosen` is the token that stands there, or null where it is still open; `drawn` the id that the
   * seed would draw; `takes` what becomes of a candidate that is clicked, "" where nothing does.
   */
  show({ chosen, step, drawn, takes, filtered = true, place }) {
    this.#title.textContent = chosen ? `Token ${place}` : "Next token";
    const focused = document.activeElement?.dataset?.candidate;
    this.#place.replaceChildren(
      chosen ? head(chosen) : el("p", { class: "hint" }, "What could come next, likeliest first."),
      figures(chosen, step),
      this.#list(chosen, step, drawn, takes, filtered),
    );
    if (chosen && this.#resample && takes) {
      this.#place.append(el("button", { type: "button", class: "quiet wide", onclick: this.#resample },
        "Draw this token anew"));
    }
    // A list that was renewed under somebody's fingers keeps its place.
    if (focused) this.#place.querySelector(`[data-candidate="${focused}"]`)?.focus();
  }

  #list(chosen, step, drawn, takes, filtered) {
    const candidates = [...step.top_logprobs];
    if (chosen && !candidates.some(({ id }) => id === chosen.id)) candidates.push(asCandidate(chosen, step));
    const scale = Math.max(1e-9, ...candidates.map((c) => Math.max(Math.exp(c.logprob), filtered ? c.prob : 0)));
    const header = el("div", { class: "candidate header", "aria-hidden": "true" },
      el("span", {}, "token"), el("span", {}), el("span", { class: "raw" }, "raw"),
      el("span", { class: "after" }, filtered ? "filtered" : ""));
    const rows = candidates.map((candidate) =>
      el("li", {}, this.#row(candidate, { chosen, drawn, takes, filtered, scale })));
    return el("div", { class: "candidates" }, header,
      el("ol", { "aria-label": "Candidates, likeliest first" }, ...rows), others(step, candidates, filtered));
  }

  #row(candidate, { chosen, drawn, takes, filtered, scale }) {
    const { id, bytes, logprob, prob, kept, rank } = candidate;
    const raw = Math.exp(logprob);
    const isChosen = chosen?.id === id;
    const said = [`${spoken(bytes)}, ${percent(raw)}`];
    if (filtered) said.push(kept ? `after filters ${percent(prob)}` : "removed by filters");
    if (isChosen) said.push("chosen");
    else if (takes) said.push(takes);
    const bars = el("span", { class: "bars" }, bar("raw", raw / scale), filtered ? bar("after", prob / scale) : null);
    const row = el("button", {
      type: "button", class: "candidate", "data-candidate": id, "aria-label": said.join(", "),
      "aria-current": isChosen ? "true" : null, disabled: !takes || isChosen,
      title: `id ${id}, bytes ${hex(bytes)}, rank ${rank}, logprob ${logprob.toFixed(4)}`,
      onclick: () => this.#take(candidate),
    },
    el("span", { class: "name" }, el("span", { class: "word" }, visible(bytes)),
      id === drawn ? el("span", { class: "drawn" }, "drawn") : null),
    bars, el("span", { class: "raw" }, percent(raw)),
    el("span", { class: "after" }, filtered ? (kept ? percent(prob) : "cut") : ""));
    if (filtered && !kept) row.classList.add("cut");
    return row;
  }
}

/** The token of a step that is not among its likeliest. */
function asCandidate({ id, bytes }, { logprob, rank, prob }) {
  return { id, bytes, logprob, rank, prob: prob ?? 0, kept: prob !== 0 };
}

function head({ id, bytes }) {
  return el("div", { class: "step-head" }, el("span", { class: "step-token" }, visible(bytes)),
    el("span", { class: "step-id" }, `id ${id}`), el("span", { class: "step-hex" }, hex(bytes)));
}

function figures(chosen, step) {
  const entries = chosen && step.logprob != null
    ? [["Probability", percent(Math.exp(step.logprob))], ["Log prob", step.logprob.toFixed(4)],
      ["Rank", String(step.rank)], ["Surprisal", nats(step.surprisal)]]
    : [];
  if (step.entropy != null) entries.push(["Entropy", nats(step.entropy)]);
  if (step.margin != null) entries.push(["Margin", nats(step.margin)]);
  return el("dl", { class: "figures" },
    ...entries.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

function bar(kind, share) {
  const element = el("span", { class: `bar-${kind}` });
  element.style.setProperty("--share", `${100 * share}%`);
  return element;
}

/** All tokens that are not listed, together. */
function others(step, listed, filtered) {
  const sum = (value) => Math.max(0, 1 - listed.reduce((total, c) => total + value(c), 0));
  return el("div", { class: "candidate rest" }, el("span", { class: "name" }, "all others"), el("span", {}),
    el("span", { class: "raw" }, percent(sum((c) => Math.exp(c.logprob)))),
    el("span", { class: "after" }, filtered ? percent(sum((c) => c.prob)) : ""));
}
