// The controls of the sampler. Knows their names on the wire, ranges of the sliders and defaults.

import { byId, el } from "./dom.js";

const CONTROLS = [
  { name: "temperature", label: "Temperature", max: 2, step: 0.05, value: 1 },
  { name: "top_k", label: "Top k", max: 100, step: 1, value: 0, off: 0 },
  { name: "top_p", label: "Top p", min: 0.05, max: 1, step: 0.01, value: 1, off: 1 },
  { name: "min_p", label: "Min p", max: 0.5, step: 0.01, value: 0, off: 0 },
  { name: "repetition_penalty", label: "Repetition penalty", min: 1, max: 2, step: 0.05, value: 1, off: 1 },
  { name: "presence_penalty", label: "Presence penalty", min: -2, max: 2, step: 0.1, value: 0, off: 0 },
  { name: "frequency_penalty", label: "Frequency penalty", min: -2, max: 2, step: 0.1, value: 0, off: 0 },
];
const SEED = 1;
const MAX_SEED = 2 ** 32 - 1; // larger ones are no whole numbers here for long

export class Sampling {
  #values = {};
  #rows = new Map();
  #changed;

  /** Calls `changed` whenever a person changes a value. */
  constructor(changed) {
    this.#changed = changed;
    const place = byId("sampling");
    for (const control of CONTROLS) place.append(this.#row(control));
    place.append(this.#seedRow());
    byId("sampling-reset").addEventListener("click", () => {
      this.set({});
      changed();
    });
    this.set({});
  }

  /** The parameters as the server takes them. */
  get values() {
    return { ...this.#values };
  }

  /** The same as one text, to see whether two are equal. */
  get key() {
    return JSON.stringify(this.#values);
  }

  /** Sets all values; what is not named gets its default. */
  set(values) {
    for (const { name, value } of [...CONTROLS, { name: "seed", value: SEED }]) {
      this.#put(name, values[name] ?? value);
    }
  }

  /** Another seed, and what it is. */
  reseed() {
    this.#put("seed", Math.floor(Math.random() * MAX_SEED));
    return this.#values.seed;
  }

  #row(control) {
    const { name, label, min = 0, max, step } = control;
    const range = el("input", { type: "range", id: name, min, max, step });
    const number = el("input", {
      type: "number", min, max, step, inputmode: "decimal", "aria-label": `${label}, as a number`,
    });
    const take = (input) => {
      const value = input.valueAsNumber;
      if (!Number.isFinite(value)) return;
      this.#put(name, value, input);
      this.#changed();
    };
    range.addEventListener("input", () => take(range));
    number.addEventListener("input", () => take(number));
    number.addEventListener("change", () => this.#put(name, this.#values[name]));
    this.#rows.set(name, { control, inputs: [range, number] });
    return el("div", { class: "control" }, el("label", { for: name }, label), number, range);
  }

  #seedRow() {
    const input = el("input", {
      type: "number", id: "seed", min: 0, max: MAX_SEED, step: 1, inputmode: "numeric",
    });
    input.addEventListener("input", () => {
      if (!Number.isSafeInteger(input.valueAsNumber)) return;
      this.#put("seed", input.valueAsNumber, input);
      this.#changed();
    });
    const button = el("button", {
      type: "button", class: "quiet small",
      onclick: () => {
        this.reseed();
        this.#changed();
      },
    }, "New");
    this.#rows.set("seed", { control: { min: 0, max: MAX_SEED, value: SEED }, inputs: [input] });
    return el("div", { class: "control seed" }, el("label", { for: "seed" }, "Seed"), button, input);
  }

  #put(name, value, source = null) {
    const { control, inputs } = this.#rows.get(name);
    const { min = 0, max } = control;
    // What is typed is kept as it is while it is typed.
    const kept = Math.min(max, Math.max(min, value));
    this.#values[name] = kept;
    for (const input of inputs) {
      if (input !== source) input.value = kept;
      if (input.type === "range") fillTrack(input, (kept - min) / (max - min), min < 0 ? -min / (max - min) : 0);
      if (control.off !== undefined && input.type === "range") {
        input.setAttribute("aria-valuetext", kept === control.off ? "off" : String(kept));
      }
    }
    const rows = [...this.#rows].filter(([key]) => key !== "seed");
    byId("sampling-reset").hidden = rows.every(([key, row]) => this.#values[key] === row.control.value);
  }
}

/** Colours a slider between its zero and its value, both from 0 to 1. */
function fillTrack(range, value, zero) {
  range.style.setProperty("--from", `${100 * Math.min(value, zero)}%`);
  range.style.setProperty("--to", `${100 * Math.max(value, zero)}%`);
}
