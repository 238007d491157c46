// Entropy as a line, surprisal as bars: one place a token.

import { byId, svg } from "./dom.js";
import { nats } from "./words.js";

const HEIGHT = 100;
const LEAST_TOP = 4; // nats: so that a calm text does not look wild

export class Chart {
  #svg = byId("chart-svg");
  #count = 0;

  /** Calls `chosen` with the place that a person points at. */
  constructor(chosen) {
    this.#svg.addEventListener("click", (event) => {
      const box = this.#svg.getBoundingClientRect();
      const place = Math.floor((this.#count * (event.clientX - box.left)) / box.width);
      if (this.#count) chosen(Math.min(this.#count - 1, Math.max(0, place)));
    });
  }

  /** Draws tokens that may have a step each, and marks one. */
  show(tokens, selected) {
    const known = tokens.filter((token) => token.step?.entropy != null);
    byId("chart").hidden = known.length < 2;
    if (known.length < 2) return;
    this.#count = tokens.length;
    const entropies = tokens.map((token) => token.step?.entropy ?? null);
    const surprisals = tokens.map((token) => token.step?.surprisal ?? null);
    const top = Math.max(LEAST_TOP, ...entropies, ...surprisals);
    const height = (value) => (HEIGHT - 2) * (value / top);
    this.#svg.setAttribute("viewBox", `0 0 ${tokens.length} ${HEIGHT}`);
    this.#svg.setAttribute("aria-label", summary(entropies, surprisals));
    this.#svg.replaceChildren(
      svg("path", { class: "bars", d: surprisals.map((value, i) => bar(i, height(value ?? 0))).join("") }),
      svg("path", { class: "area", d: `${line(entropies, height)}V${HEIGHT}H0.5Z` }),
      svg("path", { class: "line", d: line(entropies, height) }),
      svg("rect", {
        class: "cursor", x: selected, y: 0, width: 1, height: HEIGHT,
        visibility: selected < tokens.length ? "visible" : "hidden",
      }),
    );
    byId("chart-scale").textContent = `to ${nats(top)} nats`;
  }
}

const bar = (place, height) => `M${place + 0.2} ${HEIGHT}v${-height}h.6v${height}z`;

function line(values, height) {
  let known = values.find((value) => value !== null);
  return values
    .map((value, place) => {
      known = value ?? known;
      return `${place ? "L" : "M"}${place + 0.5} ${HEIGHT - height(known)}`;
    })
    .join("");
}

function summary(entropies, surprisals) {
  const mean = (values) => {
    const known = values.filter((value) => value !== null);
    return nats(known.reduce((sum, value) => sum + value, 0) / known.length);
  };
  return (
    `Entropy and surprisal of ${entropies.length} tokens; ` +
    `means ${mean(entropies)} and ${mean(surprisals)} nats`
  );
}
