// The branches as a tree: a line for each stretch of tokens without a fork.

import { byId, el } from "./dom.js";
import { stretch } from "./tree.js";
import { Pieces } from "./words.js";

const SHOWN = 40; // characters of a stretch

export class Branches {
  #place = byId("branches");
  #lines = [];
  #visit;
  #remove;

  /** Calls `visit` with the end of a branch that a person goes to, `remove` with its beginning. */
  constructor({ visit, remove }) {
    this.#visit = visit;
    this.#remove = remove;
    this.#place.addEventListener("keydown", (event) => this.#move(event));
  }

  /** Shows the trees of all prompts; `end` is the end of the branch that is read. */
  show(roots, end) {
    const focused = this.#lines.findIndex(({ item }) => item === document.activeElement);
    const path = new Set(end ? end.path : []);
    this.#lines = [];
    const grown = roots.filter((root) => root.children.length);
    byId("branches-hint").hidden = grown.some((root) => root.end.path.length !== count(root));
    this.#place.replaceChildren(...grown.map((root) => this.#root(root, path, end)));
    const current = this.#lines.findIndex(({ item }) => item.getAttribute("aria-selected") === "true");
    this.#lines.forEach(({ item }, i) => item.setAttribute("tabindex", i === Math.max(0, current) ? "0" : "-1"));
    if (focused >= 0) this.#lines[Math.min(focused, this.#lines.length - 1)]?.item.focus();
  }

  #root(root, path, end) {
    const item = this.#item(root.prompt, null, 1, root.end === end && !path.size);
    item.classList.add("root");
    this.#lines.push({ item, node: root });
    item.append(this.#group(root.children, path, 2));
    return item;
  }

  #group(children, path, level) {
    return el("ul", { role: "group" }, ...children.map((child) => this.#stretch(child, path, level)));
  }

  #stretch(first, path, level) {
    const nodes = stretch(first);
    const pieces = new Pieces();
    const text = nodes.map((node) => pieces.next(node.bytes)).join("");
    const last = nodes.at(-1);
    const item = this.#item(text, nodes.length, level, path.has(last) && !last.children.some((c) => path.has(c)));
    if (path.has(first)) item.classList.add("on-path");
    this.#lines.push({ item, node: first });
    if (last.children.length) item.append(this.#group(last.children, path, level + 1));
    return item;
  }

  #item(text, tokens, level, selected) {
    const line = text.replace(/\s+/g, " ").trim() || "␣";
    const shown = line.length > SHOWN ? `${line.slice(0, SHOWN)}…` : line;
    return el("li", {
      role: "treeitem", "aria-level": level, "aria-selected": String(selected), "aria-expanded": "true",
      "aria-label": tokens === null ? `prompt ${shown}` : `${shown}, ${tokens} tokens`,
      onclick: (event) => {
        event.stopPropagation();
        this.#go(event.currentTarget);
      },
    }, el("span", { class: "branch" }, el("span", { class: "branch-text" }, shown),
      tokens === null ? null : el("span", { class: "branch-count" }, String(tokens))));
  }

  #go(item) {
    const { node } = this.#lines.find((line) => line.item === item);
    this.#visit(node.end);
  }

  #move(event) {
    const at = this.#lines.findIndex(({ item }) => item === document.activeElement);
    if (at < 0) return;
    const { item, node } = this.#lines[at];
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: this.#lines.length - 1 }[event.key];
    if (to !== undefined) this.#lines[Math.min(this.#lines.length - 1, Math.max(0, to))].item.focus();
    else if (event.key === "Enter" || event.key === " ") this.#go(item);
    else if (event.key === "Delete" && node.parent) this.#remove(node);
    else return;
    event.preventDefault();
  }
}

const count = (node) => node.children.reduce((sum, child) => sum + 1 + count(child), 0);
