// A state as text for the address: JSON, compressed, in letters that addresses have.

const VERSION = "1";

async function through(stream, bytes) {
  const piped = new Blob([bytes]).stream().pipeThrough(stream);
  return new Uint8Array(await new Response(piped).arrayBuffer());
}

/** Returns what stands behind the # of a shared address. */
export async function packState(state) {
  const json = new TextEncoder().encode(JSON.stringify(state));
  const bytes = await through(new CompressionStream("deflate-raw"), json);
  const binary = Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
  const letters = btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  return `${VERSION}.${letters}`;
}

/** Reads it again. Throws where it is damaged, or from another version. */
export async function unpackState(fragment) {
  const [version, letters] = fragment.split(".");
  if (version !== VERSION || !letters) throw new Error("This address holds no state of this page.");
  try {
    const binary = atob(letters.replaceAll("-", "+").replaceAll("_", "/"));
    const bytes = Uint8Array.from(binary, (character) => character.charCodeAt(0));
    const json = await through(new DecompressionStream("deflate-raw"), bytes);
    return checked(JSON.parse(new TextDecoder().decode(json)));
  } catch {
    throw new Error("The state in this address is damaged.");
  }
}

const isIds = (value) => Array.isArray(value) && value.every(Number.isSafeInteger);
const isTree = (value) =>
  Array.isArray(value) && value.every((n) => Array.isArray(n) && Number.isSafeInteger(n[0]) && isTree(n.slice(1)));

/** Addresses come from anywhere: what is not of the right form is refused. */
function checked(state) {
  const fits =
    typeof state.prompt === "string" &&
    ["generate", "score"].includes(state.mode) &&
    typeof state.sampling === "object" &&
    state.sampling !== null &&
    Object.values(state.sampling).every(Number.isFinite) &&
    isTree(state.tree) &&
    isIds(state.path) &&
    Number.isSafeInteger(state.selected);
  if (!fits) throw new Error("damaged");
  return state;
}
