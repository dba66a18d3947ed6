// The page Nets: a text that is checked while it is typed, two texts compared, a model from inside.

import { showCompare } from "./netcompare.js";
import { showInside } from "./netinside.js";
import { showText } from "./nettext.js";
import { choice, failure, fill, h } from "./ui.js";

const VIEWS = [["text", "A text"], ["compare", "Compare"], ["inside", "Inside a model"]];
const SHOWN = { text: showText, compare: showCompare, inside: showInside };

export async function show(root, place) {
  const head = h("div", { class: "head" });
  const body = h("div", { class: "page" });
  fill(root, head, body);
  let leaving = new AbortController();
  place.signal.addEventListener("abort", () => leaving.abort());
  async function view() {
    leaving.abort();
    leaving = new AbortController();
    const kind = SHOWN[place.params.get("view")] ? place.params.get("view") : "text";
    fill(head, h("div", {}, h("h1", {}, "Nets")),
      choice("Show", VIEWS, kind, (value) => { place.set({ view: value === "text" ? "" : value }); view(); }));
    try {
      await SHOWN[kind](body, { ...place, signal: leaving.signal });
    } catch (error) {
      if (error.name !== "AbortError") fill(body, failure(error));
    }
  }
  await view();
}

// A text that stands packed behind the # of the address, so that a link shows it, and outlives a
// change of the page.
export function kept(name, signal) {
  const key = `moka-${name}`;
  const inAddress = () => new URLSearchParams(location.hash.slice(1));
  return {
    async get() {
      const word = inAddress().get(name);
      return (word && await unpacked(word).catch(() => "")) || sessionStorage.getItem(key) || "";
    },
    async set(text) {
      try { sessionStorage.setItem(key, text); } catch { /* it is too long to keep */ }
      const words = inAddress();
      const word = text && await packed(text);
      if (signal.aborted) return; // the address is another page's
      if (word && word.length <= LONGEST) words.set(name, word); else words.delete(name);
      const all = words.toString();
      history.replaceState(null, "", location.pathname + location.search + (all ? `#${all}` : ""));
    },
  };
}

const LONGEST = 30000; // letters in an address
const through = (blob, stream) => new Response(blob.stream().pipeThrough(stream));

async function packed(text) {
  const bytes = new Uint8Array(await through(new Blob([text]), new CompressionStream("deflate-raw")).arrayBuffer());
  return btoa(Array.from(bytes, (b) => String.fromCharCode(b)).join("")).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function unpacked(word) {
  const bytes = Uint8Array.from(atob(word.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
  return through(new Blob([bytes]), new DecompressionStream("deflate-raw")).text();
}

export function openText(set) {
  const input = h("input", { type: "file", accept: ".prototxt,.pbtxt,.pt,.txt", class: "sr", "aria-label": "Open a prototxt" });
  input.addEventListener("change", async () => { if (input.files[0]) set(await input.files[0].text()); input.value = ""; });
  return h("label", { class: "button" }, input, "Open a file");
}
