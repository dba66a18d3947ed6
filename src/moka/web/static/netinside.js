// A model from inside: filters, spreads of parameters, what images make of its blobs, dead units.

import { get, post, upload } from "./api.js";
import { count, number, plural } from "./format.js";
import { dropzone, isImage } from "./models.js";
import { empty, failure, field, fill, h, link, select, table, waiting } from "./ui.js";

const MOST_IMAGES = 16;

export async function showInside(root, place) {
  const { models } = await get("/v1/models", {}, place.signal);
  if (!models.length) { fill(root, empty("No models yet", "A model is a folder with a deploy.prototxt and a .caffemodel, or a run that has saved a snapshot.", link("Train one", "/jobs/new", { kind: "primary", glyph: "plus" }))); return; }
  const body = h("div", { class: "page" });
  const name = () => models.some((m) => m.name === place.params.get("model")) ? place.params.get("model") : models[0].name;
  fill(root, models.length > 1 && h("div", { class: "actions" }, field("Model", select(models.map((m) => m.name), name(), (value) => { place.set({ model: value }); view(); }))), body);
  await view();

  async function view() {
    fill(body, waiting(`Loading ${name()}`));
    try {
      const told = await post("/api/nets/parameters", { model: name() }, place.signal);
      const result = h("section", { class: "page", "aria-live": "polite" });
      fill(body,
        h("section", { class: "page" }, h("h2", {}, "What images make of it"), dropzone(`Choose, drop or paste up to ${MOST_IMAGES} images`, (files) => look(files, result), { signal: place.signal }), result),
        told.filters && h("section", { class: "card" }, h("h2", {}, "Filters of the first layer"), h("img", { class: "sheet", src: `data:image/png;base64,${told.filters}`, alt: `${told.filter_count} filters` }), h("p", { class: "quiet" }, `${told.filter_count} filters`)),
        spreads(told.parameters, [
          { name: "layer", title: "Layer", head: true, cell: (p) => p.layer, sort: (p) => p.layer },
          { name: "name", title: "Parameter", cell: (p) => `${p.name} ${p.shape.join("x")}` }], "Parameters"));
    } catch (error) {
      if (error.name !== "AbortError") fill(body, failure(error));
    }
  }

  async function look(all, result) {
    const files = all.filter(isImage).slice(0, MOST_IMAGES);
    if (!files.length) { fill(result, failure(new Error("these are no images."))); return; }
    fill(result, waiting("Looking into the net"));
    const form = new FormData();
    form.set("model", name());
    for (const file of files) form.append("image", file, file.name);
    try {
      const told = await upload("/api/nets/activations", form, place.signal);
      const dead = told.blobs.filter((b) => b.dead.length);
      fill(result,
        h("section", { class: "card" }, h("h2", {}, "Dead units"), dead.length
          ? [h("p", { class: "quiet" }, `Channels that are zero everywhere, for ${told.images === 1 ? "this image" : `all ${told.images} images`}.`), h("dl", { class: "dead" }, dead.map((b) => [h("dt", {}, b.blob, h("span", { class: "quiet" }, ` ${b.dead.length} of ${b.channels}`)), h("dd", { class: "quiet" }, listed(b.dead))]))]
          : h("p", { class: "quiet" }, "No channel is zero everywhere.")),
        spreads(told.blobs, [
          { name: "blob", title: "Blob", head: true, cell: (b) => b.blob },
          { name: "shape", title: "Shape", cell: (b) => b.shape.join("x") }], "Blobs, layer by layer"),
        h("section", { class: "page" }, h("h2", {}, "Channels of the first image"), h("div", { class: "sheets" }, told.blobs.filter((b) => b.png).map((b) =>
          h("figure", { class: "card" }, h("img", { class: "sheet", src: `data:image/png;base64,${b.png}`, alt: `Channels of ${b.blob}`, loading: "lazy" }), h("figcaption", { class: "quiet" }, `${b.blob}, ${b.type}, ${plural(b.channels || b.shape[1], "channel")}${(b.channels || 0) > 64 ? ", the first 64" : ""}`))))));
    } catch (error) {
      if (error.name !== "AbortError") fill(result, failure(error));
    }
  }
}

function listed(numbers) {
  return numbers.length > 60 ? `${numbers.slice(0, 60).join(", ")} and ${numbers.length - 60} more` : numbers.join(", ");
}

function spreads(rows, first, caption) {
  return table([...first,
    { name: "histogram", title: "Histogram", cell: (r) => histogram(r) },
    { name: "least", title: "Least", numeric: true, cell: (r) => number(r.least, 3) },
    { name: "most", title: "Most", numeric: true, cell: (r) => number(r.most, 3) },
    { name: "mean", title: "Mean", numeric: true, cell: (r) => number(r.mean, 3) },
    { name: "deviation", title: "Deviation", numeric: true, cell: (r) => number(r.deviation, 3) },
    { name: "zeros", title: "Zeros", numeric: true, cell: (r) => `${(100 * r.zeros).toFixed(1)} %` },
    { name: "count", title: "Numbers", numeric: true, cell: (r) => count(r.shape.reduce((a, b) => a * b, 1)) },
  ], rows, { caption });
}

function histogram(row) {
  const most = Math.max(...row.counts, 1);
  return h("svg", { class: "histogram", viewBox: `0 0 ${row.counts.length * 3} 28`, role: "img", "aria-label": `Values from ${number(row.least, 3)} to ${number(row.most, 3)}`, preserveAspectRatio: "none" },
    row.counts.map((n, i) => h("rect", { x: i * 3, width: 2.6, y: 28 - 28 * Math.sqrt(n / most), height: 28 * Math.sqrt(n / most) })));
}
