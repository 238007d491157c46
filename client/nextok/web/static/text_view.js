// The text as tokens that can be chosen: one stop for the keyboard, arrows inside.

import { el } from "./dom.js";
import { Pieces, nats, spoken, visible } from "./words.js";

const FULL_HEAT = 10; // nats of surprisal from which the shade grows no more

/** How strongly a token is shaded, from 0 to 100. */
export const heat = (surprisal) =>
  surprisal === null ? 0 : Math.round(100 * Math.min(1, surprisal / FULL_HEAT));

export class TextView {
  #place;
  #chosen;
  #pieces = new Pieces();
  #items = [];
  #selected = null;
  #pointer;

  /** Calls `chosen` with the place of a token that a person chooses. */
  constructor(place, chosen) {
    this.#place = place;
    this.#chosen = chosen;
    place.addEventListener("click", (event) => {
      const item = event.target.closest("[data-index]");
      if (item) chosen(Number(item.dataset.index));
    });
    place.addEventListener("keydown", (event) => this.#move(event));
  }

  /** Shows a prompt and tokens behind it; `open` adds a place for the one to come. */
  show(prompt, tokens, { open }) {
    this.#pieces = new Pieces();
    this.#items = [];
    this.#selected = null;
    this.#place.replaceChildren();
    if (prompt) this.#place.append(el("span", { class: "prompt-text", role: "presentation" }, prompt));
    this.#pointer = open ? el("span", {
      class: "token pointer", role: "option", "aria-selected": "false",
      "aria-label": "what could come next", id: "token-next",
    }, "\u200b") : null;
    if (this.#pointer) this.#place.append(this.#pointer);
    for (const token of tokens) this.append(token);
    this.#number();
  }

  /** Adds a token at the end. */
  append({ bytes, step, taken }) {
    const index = this.#items.length;
    const piece = this.#pieces.next(bytes);
    const shown = piece === "" ? "·" : piece.replaceAll("\n", "↵\n");
    const surprisal = step?.surprisal ?? null;
    const said = surprisal === null ? "" : `, surprisal ${nats(surprisal)} nats`;
    const item = el("span", {
      class: "token", role: "option", "aria-selected": "false", id: `token-${index}`,
      "aria-label": `${spoken(bytes)}${said}`, "data-index": index,
      title: surprisal === null ? visible(bytes) : `${visible(bytes)}  ${nats(surprisal)} nats`,
    }, shown);
    if (piece === "") item.classList.add("part");
    if (taken) item.classList.add("taken");
    item.style.setProperty("--heat", `${heat(surprisal)}%`);
    this.#items.push(item);
    if (this.#pointer) this.#pointer.before(item);
    else this.#place.append(item);
    this.#number();
  }

  /** Marks a token; the one behind the last is what could come next. */
  select(index, { focus = false } = {}) {
    const item = this.#items[index] ?? this.#pointer;
    if (this.#selected !== item) {
      this.#selected?.setAttribute("aria-selected", "false");
      item?.setAttribute("aria-selected", "true");
      this.#selected = item;
    }
    if (item) this.#place.setAttribute("aria-activedescendant", item.id);
    else this.#place.removeAttribute("aria-activedescendant");
    if (focus) item?.scrollIntoView({ block: "nearest" });
  }

  #number() {
    if (this.#pointer) this.#pointer.dataset.index = this.#items.length;
  }

  #move(event) {
    const last = this.#items.length - (this.#pointer ? 0 : 1);
    const now = Number(this.#selected?.dataset.index ?? -1);
    const next = {
      ArrowRight: now + 1,
      ArrowLeft: now - 1,
      ArrowDown: this.#beside(now, 1),
      ArrowUp: this.#beside(now, -1),
      Home: 0,
      End: last,
    }[event.key];
    if (next === undefined || event.altKey || event.ctrlKey || event.metaKey || last < 0) return;
    event.preventDefault();
    this.#chosen(Math.min(last, Math.max(0, next)));
    this.select(Math.min(last, Math.max(0, next)), { focus: true });
  }

  /** The token above or below, nearest to where this one is. */
  #beside(now, direction) {
    const all = this.#pointer ? [...this.#items, this.#pointer] : this.#items;
    const from = all[now]?.getClientRects()[0];
    if (!from) return now;
    let best = now;
    let line = null;
    let distance = Infinity;
    for (let i = now + direction; i >= 0 && i < all.length; i += direction) {
      const at = all[i].getClientRects()[0];
      if (!at || Math.abs(at.top - from.top) < from.height / 2) continue;
      line ??= at.top;
      if (Math.abs(at.top - line) >= from.height / 2) break;
      if (Math.abs(at.left - from.left) < distance) [best, distance] = [i, Math.abs(at.left - from.left)];
    }
    return best;
  }
}
