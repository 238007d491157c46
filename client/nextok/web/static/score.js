// How likely a text is: every token shaded by its surprisal, as the server computes it.

import { events, isAbort } from "./api.js";
import { announce, byId, el } from "./dom.js";
import { grouped, nats } from "./words.js";

const TOP = 12;

export class Score {
  #page;
  #tokens = [];
  #selected = 0;
  #running = null;
  #totals = [];

  /** `page` has the parts that both modes share. */
  constructor(page) {
    this.#page = page;
  }

  get running() {
    return this.#running !== null;
  }

  get state() {
    return { tree: [], path: [], selected: this.#selected };
  }

  /** Shows everything anew, as when this mode is come back to. */
  show() {
    this.#page.text.show("", this.#tokens, { open: false });
    this.#showTotals();
    this.select(this.#selected);
  }

  /** Looks at a token. */
  select(place) {
    const { chart, inspector, text } = this.#page;
    this.#selected = Math.min(place, Math.max(0, this.#tokens.length - 1));
    text.select(this.#selected);
    chart.show(this.#tokens, this.#selected);
    const token = this.#tokens[this.#selected];
    const title = token ? `Token ${this.#selected + 1}` : "Token";
    if (!token) inspector.empty("Score a text, and see what the model thinks of each token.", title);
    else if (token.step.logprob === null) inspector.empty("Nothing comes before the first token.", title);
    else inspector.show({ chosen: token, step: token.step, takes: "", filtered: false, place: this.#selected + 1 });
  }

  stop() {
    this.#running?.abort();
    this.#running = null;
  }

  /** Scores the text. */
  async run() {
    this.stop();
    this.#page.fail(null);
    this.#tokens = [];
    this.#totals = [];
    this.#selected = 0;
    this.show();
    const controller = (this.#running = new AbortController());
    this.#page.runs(true);
    try {
      await this.#read(controller);
    } catch (error) {
      if (!isAbort(error)) this.#page.fail(error);
    }
    if (this.#running !== controller && this.#running !== null) return;
    this.#running = null;
    this.#page.runs(false);
    if (this.#page.mode() === "score") this.show();
  }

  async #read(controller) {
    const body = { prompt: byId("prompt").value, top_logprobs: TOP };
    for await (const event of events("score", body, controller.signal)) {
      if (controller.signal.aborted) return;
      if (event.token) {
        const token = { id: event.token.id, bytes: event.token.bytes, step: event.token };
        this.#tokens.push(token);
        if (this.#page.mode() === "score") this.#page.text.append(token);
      } else if (event.total) {
        this.#totals = this.#sum(event);
        this.#selected = Math.min(1, this.#tokens.length - 1);
        announce(`Scored ${this.#tokens.length} tokens, perplexity ${this.#totals[2]?.[1] ?? "none"}`);
      }
    }
  }

  #sum({ total }) {
    const count = total.scored_tokens;
    if (!count) return [["Tokens", grouped(this.#tokens.length)]];
    const bytes = this.#tokens.slice(1).reduce((sum, token) => sum + token.bytes.length, 0);
    return [
      ["Tokens", grouped(this.#tokens.length)],
      ["Mean surprisal", `${nats(-total.logprob / count)} nats`],
      ["Perplexity", total.perplexity.toPrecision(4)],
      ["Bits per byte", nats(-total.logprob / Math.LN2 / bytes)],
      ["Log probability", nats(total.logprob)],
    ];
  }

  #showTotals() {
    byId("totals").replaceChildren(...this.#totals.map(([name, value]) =>
      el("div", {}, el("dt", {}, name), el("dd", {}, value))));
  }
}
