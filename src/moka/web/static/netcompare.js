// Two prototxts side by side, and the layers that differ.

import { post } from "./api.js";
import { bytes, count } from "./format.js";
import { adds } from "./models.js";
import { kept, openText } from "./nets.js";
import { failure, fill, h, paused } from "./ui.js";

export async function showCompare(root, place) {
  const result = h("section", { class: "page", "aria-live": "polite" });
  const sides = ["a", "b"].map((name) => {
    const store = kept(`net-${name}`, place.signal);
    const area = h("textarea", { class: "code", rows: 10, spellcheck: "false", "aria-label": `Net ${name.toUpperCase()}`, placeholder: "Paste a prototxt here, or open a file." });
    const set = (text) => { area.value = text; store.set(text); soon(); };
    area.addEventListener("input", () => { store.set(area.value); soon(); });
    return { store, area, pane: h("section", { class: "page" }, h("div", { class: "head" }, h("h2", {}, `Net ${name.toUpperCase()}`), openText(set)), area) };
  });
  const soon = paused(compare, 300);
  fill(root, h("div", { class: "two" }, sides.map((s) => s.pane)), result);
  for (const side of sides) side.area.value = await side.store.get();
  compare();

  async function compare() {
    const [a, b] = sides.map((s) => s.area.value);
    if (!a.trim() || !b.trim()) { fill(result, h("p", { class: "quiet" }, "With both texts here, their differences stand below.")); return; }
    try {
      const found = await post("/api/nets/compare", { a, b }, place.signal);
      const different = found.pairs.filter((p) => p.change !== "same");
      const rows = [["Layers", "layers", count], ["Parameters", "parameters", count], ["Multiply-adds", "multiply_adds", adds], ["Memory of blobs", "output_bytes", bytes]];
      fill(result, h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Sums" }, h("table", {}, h("thead", {}, h("tr", {}, ["", "Net A", "Net B"].map((t, i) => h("th", { scope: "col", class: i ? "numeric" : null }, t)))),
        h("tbody", {}, rows.map(([title, key, text]) => h("tr", {}, h("th", { scope: "row" }, title), found.totals.map((t) => h("td", { class: "numeric" }, text(t[key])))))))),
      h("h2", {}, different.length ? `${different.length} of ${found.pairs.length} layers differ` : "All layers are the same"),
      h("div", { class: "scroll differences", tabindex: "0", role: "region", "aria-label": "Differences" }, different.map((p) => h("article", { class: `pair ${p.change}` },
        h("h3", {}, p.name, h("span", { class: "tag" }, { changed: "changed", added: "only in B", removed: "only in A" }[p.change])),
        h("pre", {}, p.before.map((line) => h("del", {}, `${line}\n`)), p.after.map((line) => h("ins", {}, `${line}\n`)))))));
    } catch (error) {
      if (error.name !== "AbortError") fill(result, failure(error));
    }
  }
}
