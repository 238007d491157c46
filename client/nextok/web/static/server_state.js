// What serves, and how it is: the line in the bar, and the facts behind it.

import { ask } from "./api.js";
import { byId, el } from "./dom.js";
import { grouped } from "./words.js";

const EVERY_MS = 2000;

export class ServerState {
  model = null;
  #own = null; // tokens a second of the stream that is read

  /** Asks now, and again and again while the page is looked at. */
  async begin() {
    await this.#renew();
    setInterval(() => document.hidden || this.#renew(), EVERY_MS);
  }

  /** Tells how fast the stream comes that is read; null when there is none. */
  streaming(rate) {
    this.#own = rate;
    if (rate !== null) this.#line(`${rate.toFixed(0)} tokens/s`);
  }

  async #renew() {
    try {
      const state = await ask("state");
      if (!this.model) {
        this.model = await ask("model");
        this.#facts();
      }
      byId("server-dot").dataset.state = state.serving ? "serving" : "away";
      const rate = state.tokens_per_second;
      if (!state.serving) this.#line("not serving");
      else if (this.#own === null) this.#line(rate >= 1 ? `${rate.toFixed(0)} tokens/s` : "ready");
    } catch (error) {
      this.model = null; // another one may come back
      byId("server-dot").dataset.state = "away";
      byId("server-line").textContent = error.message;
    }
  }

  #line(doing) {
    if (this.model) byId("server-line").textContent = `${this.model.name} · ${this.model.precision} · ${doing}`;
  }

  #facts() {
    const { model } = this;
    const worst = (field, pick) => pick(...model.certificate.comparisons.map((c) => c[field]));
    const entries = [
      ["Model", `${model.name}, ${model.layers} layers of width ${model.width}, ${model.heads} heads`],
      ["Vocabulary", `${grouped(model.vocabulary_size)} tokens`],
      ["Context", `${grouped(model.context_length)} tokens`],
      ["Precision", model.precision + (model.certificate.approximate ? ", approximate" : ", exact to 1e-4")],
    ];
    if (model.certificate.comparisons.length) {
      entries.push(
        ["Certificate", `${grouped(model.certificate.positions)} positions against the checkpoint`],
        ["Largest |Δ logprob|", worst("max_abs_logprob_difference", Math.max).toExponential(1)],
        ["Largest mean KL", `${worst("mean_kl", Math.max).toExponential(1)} nats`],
        ["Same top token", `at least ${(100 * worst("top1_agreement", Math.min)).toFixed(2)}%`],
      );
    }
    entries.push(
      ["Artifact", model.artifact_sha256.slice(0, 16)],
      ["Server", `nextok ${model.server_version}, ONNX Runtime ${model.onnxruntime_version}`],
      ["Threads, slots", `${model.threads}, ${model.limits.slots}`],
    );
    byId("server-facts").replaceChildren(
      ...entries.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
  }
}
