// The branches: prompts, and under each a tree of tokens. Knows nothing of the page.

/** A token behind others. `step` is what it was chosen from, as the server told it. */
export class Node {
  constructor(parent, token) {
    this.parent = parent;
    this.id = token.id;
    this.bytes = token.bytes;
    this.step = null;
    this.sampling = null; // with which parameters the step was computed
    this.taken = false; // by hand, not drawn
    this.children = [];
    this.last = null; // the child that was visited last
  }

  /** The tokens from the prompt up to this one. */
  get path() {
    const path = [];
    for (let node = this; node.parent; node = node.parent) path.push(node);
    return path.reverse();
  }

  /** The child with this token; there is only one. */
  child(token) {
    let found = this.children.find((node) => node.id === token.id);
    if (!found) {
      found = new Node(this, token);
      this.children.push(found);
    }
    this.last = found;
    return found;
  }

  /** The end of the branch that was visited last. */
  get end() {
    let node = this;
    while (node.last) node = node.last;
    return node;
  }

  /** Makes the branch up to here the one that was visited last. */
  visit() {
    for (let node = this; node.parent; node = node.parent) node.parent.last = node;
  }

  /** Takes this token and all behind it away. */
  remove() {
    const siblings = this.parent.children;
    siblings.splice(siblings.indexOf(this), 1);
    if (this.parent.last === this) this.parent.last = siblings.at(-1) ?? null;
  }
}

/** A prompt, with what was made of it. */
export class Root extends Node {
  constructor(prompt) {
    super(null, { id: null, bytes: [] });
    this.prompt = prompt;
    this.finishes = new Map(); // nodes after which the model ended the text
  }
}

/** A stretch of tokens without a fork, as the list of branches shows it. */
export function stretch(first) {
  const nodes = [first];
  while (nodes.at(-1).children.length === 1) nodes.push(nodes.at(-1).children[0]);
  return nodes;
}

/** A tree as nested lists of ids, and back: see `share`. */
export const packed = (node) => node.children.map((child) => [child.id, ...packed(child)]);

/** Every path from the root to a leaf, as ids. */
export function paths(packedChildren, before = []) {
  return packedChildren.flatMap(([id, ...rest]) =>
    rest.length ? paths(rest, [...before, id]) : [[...before, id]],
  );
}
