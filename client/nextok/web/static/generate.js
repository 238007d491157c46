// Writing with the model: a prompt, a tree of branches behind it, and the step that is looked at.

import { ask, events, isAbort } from "./api.js";
import { announce, byId, debounced, el } from "./dom.js";
import { Root, packed, paths } from "./tree.js";
import { hex, visible } from "./words.js";

const TOP = 12; // candidates of a step
const CHIPS = 160; // tokens of a prompt that are shown

export class Generate {
  #page;
  #roots = [];
  #root = new Root("");
  #end = this.#root;
  #selected = 0; // place behind the prompt; one past the last is the token to come
  #shown = null; // the step in the inspector, and the parameters it was computed with
  #running = null;
  #looking = new AbortController();
  #lookFailed = false;
  #lookSoon = debounced(60, () => this.#look());

  /** `page` has the parts that both modes share, and what they tell each other. */
  constructor(page) {
    this.#page = page;
  }

  get running() {
    return this.#running !== null;
  }

  get state() {
    return {
      tree: packed(this.#root),
      path: this.#end.path.map(({ id }) => id),
      selected: this.#selected,
    };
  }

  /** Shows everything anew, as when this mode is come back to. */
  show() {
    const { text, branches } = this.#page;
    text.show(this.#root.prompt, this.#end.path, { open: this.#root.prompt !== "" });
    branches.show(this.#roots, this.#end);
    this.select(this.#selected);
  }

  /** Takes another prompt; what was made of the others stays in the list of branches. */
  setPrompt(prompt) {
    if (prompt === this.#root.prompt) return;
    this.stop();
    this.#root = this.#roots.find((root) => root.prompt === prompt) ?? new Root(prompt);
    this.#end = this.#root.end;
    this.#selected = this.#end.path.length;
    this.#page.note("");
    this.show();
    this.#tokenizeSoon();
  }

  #tokenizeSoon = debounced(120, () => this.#tokenize());

  async #tokenize() {
    const { prompt } = this.#root;
    try {
      const { tokens } = await ask("tokenize", { text: prompt });
      if (prompt !== this.#root.prompt) return null;
      byId("chips").replaceChildren(...tokens.slice(0, CHIPS).map(chip));
      if (tokens.length > CHIPS) byId("chips").append(el("li", { class: "more" }, `and ${tokens.length - CHIPS} more`));
      return tokens.map(({ id }) => id);
    } catch (error) {
      this.#page.fail(error);
      return null;
    }
  }

  /** Looks at a token, or at the one to come. */
  select(place) {
    const path = this.#end.path;
    this.#selected = Math.min(place, path.length);
    this.#page.text.select(this.#selected);
    this.#page.chart.show(path, this.#selected);
    const node = path[this.#selected];
    if (node?.step) this.#inspect(node, node.step, node.sampling, null);
    if (!this.running) this.#lookSoon();
  }

  /** The parameters are others: what do they do to the step that is looked at? */
  samplingChanged() {
    if (!this.running) this.#lookSoon();
  }

  /** Asks what the step is under the parameters of now. */
  async #look() {
    const { inspector, sampling, mode } = this.#page;
    if (this.running || mode() !== "generate") return;
    this.#looking.abort();
    if (!this.#root.prompt) {
      this.#shown = null;
      inspector.empty("Type a prompt, and see what could come next.");
      return;
    }
    const path = this.#end.path;
    const node = path[this.#selected];
    const key = sampling.key;
    if (node?.step && node.sampling === key) {
      this.#inspect(node, node.step, key, null);
      return;
    }
    const { signal } = (this.#looking = new AbortController());
    try {
      const answer = await ask("next", {
        prompt: this.#root.prompt,
        path: path.slice(0, this.#selected).map(({ id }) => id),
        token_ids: node ? [node.id] : [],
        top_logprobs: TOP,
        ...sampling.values,
      }, signal);
      if (signal.aborted) return;
      if (this.#lookFailed) this.#page.fail(null);
      this.#lookFailed = false;
      if (answer.step) this.#inspect(node, node ? chosenStep(answer.step, node.id) : answer.step, key, answer.step.id);
      else inspector.empty("The text ends here.", "End of the text");
    } catch (error) {
      if (isAbort(error)) return;
      this.#lookFailed = true;
      this.#page.fail(error);
    }
  }

  #inspect(node, step, sampling, drawn) {
    this.#shown = { step, sampling, drawn };
    this.#page.inspector.show({
      chosen: node, step, drawn,
      takes: node ? "branch from here" : "append",
      place: this.#selected + 1,
    });
  }

  /** Puts a candidate where the step is that is looked at. */
  take(candidate) {
    if (!this.#shown) return;
    const path = this.#end.path;
    const before = this.#selected ? path[this.#selected - 1] : this.#root;
    const forks = this.#selected < path.length;
    this.stop();
    const node = before.child(candidate);
    if (!node.step) {
      node.step = chosenStep(this.#shown.step, candidate.id);
      node.sampling = this.#shown.sampling;
      node.taken = candidate.id !== this.#shown.drawn;
    }
    this.#keep();
    this.#go(node.end, forks ? this.#selected : this.#selected + 1);
    announce(`${visible(candidate.bytes)} ${forks ? "begins a branch" : "appended"}`);
    if (forks && !node.children.length) this.run();
  }

  /** Draws the token that is looked at anew, and all behind it. */
  resample() {
    const path = this.#end.path;
    this.#page.sampling.reseed();
    this.stop();
    this.#go(this.#selected ? path[this.#selected - 1] : this.#root, this.#selected);
    this.run();
  }

  /** Goes to the end of a branch, of this prompt or another. */
  visit(end) {
    this.stop();
    end.visit();
    let root = end;
    while (root.parent) root = root.parent;
    if (root !== this.#root) {
      this.#root = root;
      byId("prompt").value = root.prompt;
      this.#tokenizeSoon();
    }
    this.#go(end, end.path.length);
  }

  /** Takes a branch away, from a token on. */
  remove(node) {
    this.stop();
    const gone = this.#end.path.includes(node);
    node.remove();
    if (gone) this.#go(node.parent.end, Infinity);
    else this.show();
  }

  #go(end, selected) {
    this.#end = end;
    end.visit();
    this.#selected = Math.min(selected, end.path.length);
    this.show();
  }

  #keep() {
    if (!this.#roots.includes(this.#root)) this.#roots.push(this.#root);
  }

  stop() {
    this.#running?.abort();
    this.#running = null;
  }

  /** Goes on from the end of the branch. */
  async run() {
    if (!this.#root.prompt) {
      this.#page.fail(new Error("Type a prompt first: GPT-2 has to start from something."));
      return;
    }
    this.stop();
    this.#looking.abort();
    this.#page.fail(null);
    const controller = (this.#running = new AbortController());
    this.#page.runs(true);
    const told = { tokens: 0, ended: null };
    try {
      await this.#read(controller, told);
    } catch (error) {
      if (!isAbort(error)) this.#page.fail(error);
    }
    if (this.#running === controller || this.#running === null) this.#page.runs(false);
    if (this.#running === controller) this.#running = null;
    if (controller.signal.aborted && this.#running) return; // another one runs by now
    this.#page.server.streaming(null);
    this.#page.note(told.ended ?? `Stopped after ${told.tokens} tokens`);
    announce(told.ended ?? `stopped after ${told.tokens} tokens`);
    this.#page.branches.show(this.#roots, this.#end);
    this.#page.chart.show(this.#end.path, this.#selected);
  }

  async #read(controller, told) {
    const { sampling, server } = this.#page;
    const key = sampling.key;
    const body = {
      prompt: this.#root.prompt,
      path: this.#end.path.map(({ id }) => id),
      max_tokens: byId("max-tokens").valueAsNumber,
      top_logprobs: TOP,
      ...sampling.values,
    };
    let follows = true;
    let drawnAt = 0;
    let first = null;
    this.#selected = this.#end.path.length;
    for await (const event of events("generate", body, controller.signal)) {
      if (controller.signal.aborted) return;
      if (event.step) {
        const { step } = event;
        follows = follows && this.#selected >= this.#end.path.length - 1;
        this.#add(step, key);
        told.tokens += 1;
        first ??= step.elapsed_seconds;
        if (told.tokens > 1) server.streaming((told.tokens - 1) / (step.elapsed_seconds - first || 1e-9));
        if (follows) this.#selected = this.#end.path.length - 1;
        if (performance.now() - drawnAt > 40) {
          drawnAt = performance.now();
          if (follows) this.select(this.#selected);
          await new Promise(requestAnimationFrame);
        }
      } else if (event.finish) {
        told.ended = ending(event, told.tokens);
      }
    }
    if (follows && told.tokens) this.select(this.#selected);
  }

  #add(step, key) {
    const known = this.#end.children.some(({ id }) => id === step.id);
    const node = this.#end.child(step);
    node.step = step;
    node.sampling = key;
    this.#end = node;
    this.#keep();
    this.#page.text.append(node);
    if (!known && node.parent.children.length > 1) this.#page.branches.show(this.#roots, this.#end);
  }

  /** Makes a shared state again: the tokens are scored, which tells their steps. */
  async restore({ prompt, tree, path, selected }) {
    byId("prompt").value = prompt;
    this.stop();
    this.#root = new Root(prompt);
    this.#end = this.#root;
    const ids = await this.#tokenize();
    if (ids === null) return;
    for (const branch of paths(tree)) {
      let node = this.#root;
      for await (const { token } of events("score", { prompt: [...ids, ...branch], top_logprobs: TOP })) {
        if (!token || token.position < ids.length) continue;
        node = node.child(token);
        node.step ??= token;
      }
    }
    if (tree.length) this.#keep();
    let end = this.#root;
    for (const id of path) end = end.children.find((child) => child.id === id) ?? end;
    this.#go(end, selected);
  }
}

/** A distribution as the step of one of its tokens. */
function chosenStep(step, id) {
  const found = [...step.top_logprobs, ...(step.token_logprobs ?? [])].find((c) => c.id === id);
  const { logprob, rank, prob } = found;
  return { ...step, id, logprob, rank, prob, surprisal: -logprob };
}

function chip({ id, bytes }) {
  return el("li", { class: "chip" }, el("span", { class: "chip-token" }, visible(bytes)),
    el("span", { class: "chip-id" }, String(id)), el("span", { class: "chip-hex" }, hex(bytes)));
}

function ending({ finish, summary }, tokens) {
  const why = {
    stop: "the model ended the text",
    length: "as many as were asked for",
    context: "the model's context is full",
  }[finish.finish_reason] ?? finish.finish_reason;
  const seconds = summary.timings.decode_seconds;
  const rate = seconds > 0 && tokens > 1 ? `, ${((tokens - 1) / seconds).toFixed(0)} a second` : "";
  return `${tokens} tokens${rate}: ${why}`;
}
