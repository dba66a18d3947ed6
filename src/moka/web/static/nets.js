// The page Nets: a text that is checked while it is typed, two texts compared, a model from inside.

import { choice, fill, h, style } from "./models.js";
import { showCompare } from "./netcompare.js";
import { showInside } from "./netinside.js";
import { showText } from "./nettext.js";

const VIEWS = [["text", "A text"], ["compare", "Compare"], ["inside", "Inside a model"]];
const SHOWN = { text: showText, compare: showCompare, inside: showInside };

export async function show(root, place) {
  style();
  const head = h("div", { class: "head" });
  const body = h("div", { class: "page" });
  fill(root, head, body);
  let leaving = new AbortController();
  place.signal.addEventListener("abort", () => leaving.abort());
  function view() {
    leaving.abort();
    leaving = new AbortController();
    const kind = SHOWN[place.params.get("view")] ? place.params.get("view") : "text";
    fill(head, h("div", {}, h("h1", {}, "Nets")),
      choice("Show", VIEWS, kind, (value) => { place.set({ view: value === "text" ? "" : value }); view(); }));
    SHOWN[kind](body, { ...place, signal: leaving.signal });
  }
  view();
}

// A text that outlives a change of the page, and of the address it is too long for.
export function kept(name) {
  return { get: () => sessionStorage.getItem(`moka-${name}`) || "", set: (text) => { try { sessionStorage.setItem(`moka-${name}`, text); } catch { /* it is too long to keep */ } } };
}

export function openText(set) {
  const input = h("input", { type: "file", accept: ".prototxt,.pbtxt,.pt,.txt", class: "sr", "aria-label": "Open a prototxt" });
  input.addEventListener("change", async () => { if (input.files[0]) set(await input.files[0].text()); input.value = ""; });
  return h("label", { class: "button" }, input, "Open a file");
}
