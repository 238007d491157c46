// How tokens and numbers are written.

/** Turns the bytes of tokens into text, one after the other: a character may span several. */
export class Pieces {
  #decoder = new TextDecoder("utf-8");

  next(bytes) {
    return this.#decoder.decode(new Uint8Array(bytes), { stream: true });
  }
}

export const hex = (bytes) => bytes.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");

const STRICT = new TextDecoder("utf-8", { fatal: true });

/** A token by itself, with what one would not see made visible. */
export function visible(bytes) {
  let text;
  try {
    text = STRICT.decode(new Uint8Array(bytes));
  } catch {
    return `‹${hex(bytes)}›`; // a part of a character
  }
  if (text === "") return "‹empty›";
  return text
    .replaceAll(" ", "␣")
    .replaceAll("\n", "↵")
    .replaceAll("\t", "⇥")
    .replace(/[\p{Cc}\p{Cf}\p{Zs}\p{Zl}\p{Zp}]/gu, (c) => `‹${c.codePointAt(0).toString(16)}›`);
}

/** A token for who hears it. */
export function spoken(bytes) {
  return visible(bytes).replaceAll("␣", " ").replaceAll("↵", "new line ").trim() || "space";
}

export function percent(probability) {
  const value = probability * 100;
  if (value === 0) return "0%";
  if (value < 0.01) return "<0.01%";
  return `${value.toFixed(value < 10 ? 2 : 1)}%`;
}

export const nats = (value) => value.toFixed(2);

export const grouped = (value) => value.toLocaleString("en");
