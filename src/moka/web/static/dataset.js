// One data set: its counts, its mean image, its records, and what augmentation makes of one.

import { address, get, post, upload } from "./api.js";
import { bytes, count, number, percent, plural } from "./format.js";
import { button, empty, failure, field, fill, h, icon, link, paused, progress, toast, trouble } from "./ui.js";

const enc = encodeURIComponent;
const PAGE = 60;

export async function show(root, place) {
  const { params, set, signal } = place;
  const name = params.get("name") || "";
  let augment = () => {};
  const top = h("div", { class: "form" }), stats = h("div", { class: "form" }), classes = h("div", {}), browse = h("div", { class: "form" });
  const extra = h("div", { class: "form" });
  fill(root, top, stats, classes, browse, extra);
  const train = h("span", {});
  fill(top, h("div", { class: "head" }, h("div", {}, h("p", { class: "quiet" }, link("Data sets", "/data", { glyph: "back" })), h("h1", {}, name)),
    h("div", { class: "actions" }, train, link("Make another of it", `/data/new?source=${enc(name)}`, { kind: "button" }))));

  let found;
  for (;;) {
    try { found = await get("/api/data/set", { name }, signal); } catch (error) {
      if (error.name !== "AbortError") fill(stats, failure(error));
      return;
    }
    if (!found.reading) break;
    fill(stats, h("p", { class: "quiet" }, `Reading it through: ${count(found.done)} of ${found.total ? plural(found.total, "record") : "…"}`),
      progress(found.total ? found.done / found.total : null, "Progress of the reading"));
    await new Promise((later) => setTimeout(later, 500));
    if (signal.aborted) return;
  }

  const cell = (title, value, small) => h("div", {}, h("dt", {}, title), h("dd", {}, value, small && [" ", h("small", {}, small)]));
  const kinds = { raw: "raw bytes", encoded: "encoded", float: "floats", broken: "broken" };
  const isBase = found.kind === "database";
  fill(stats, h("dl", { class: "stats card" },
    cell(isBase ? "Records" : "Images", count(found.entries)),
    cell("Classes", count(found.classes.length)),
    isBase ? [
      cell("Image", found.shapes.length ? found.shapes[0].shape.join(" × ") : "–", found.different_shapes > 1 ? `and ${found.different_shapes - 1} more sizes` : "C × H × W"),
      cell("Stored as", Object.keys(found.kinds).map((k) => kinds[k] || k).join(", ") || "–"),
      cell("Size", bytes(found.bytes), found.backend === "lmdb" ? "LMDB" : "LevelDB"),
      cell("Broken", count(found.broken), found.broken ? "records" : ""),
    ] : null));

  fill(train, link("Train on it", `/jobs/new?${new URLSearchParams(found.training)}`, { kind: "primary", glyph: "play" }));
  drawClasses();
  if (!isBase) {
    fill(browse, h("p", { class: "quiet" }, "A folder can be trained on as it is (ImageData). A database is faster, and can be looked at here."));
    return;
  }
  const mean = h("div", { class: "card" });
  const grid = h("ul", { class: "thumbs" }), pages = h("div", { class: "actions" }), heading = h("h2", {}, "Records");
  fill(browse, h("div", { class: "head" }, h("div", {}, heading), filters()), grid, pages);
  fill(extra, h("div", { class: "two" }, augmentation(), mean));
  drawMean();
  await records();

  function drawClasses() {
    const all = found.classes;
    if (!all.length) return;
    const most = Math.max(...all.map((c) => c.count)), sum = all.reduce((s, c) => s + c.count, 0);
    const shown = all.slice(0, 40);
    fill(classes, h("section", { class: "card" }, h("h2", {}, "Counts by class"),
      h("ul", { class: "bars" }, shown.map((c) => h("li", {},
        isBase ? h("a", { href: `/data/set?name=${enc(name)}&label=${c.label}`, onclick: (e) => { e.preventDefault(); pick(String(c.label)); } }, label(c)) : h("span", {}, label(c)),
        h("span", { class: "track" }, h("span", { class: "filled", style: { width: `${(100 * c.count) / most}%` } })),
        h("span", { class: "numeric" }, count(c.count), h("span", { class: "quiet" }, ` ${percent(c.count / sum)}`))))),
      all.length > shown.length ? h("p", { class: "quiet" }, `and ${plural(all.length - shown.length, "more class", "more classes")}`) : null,
      most > 10 * Math.min(...all.map((c) => c.count)) ? h("p", { class: "quiet" }, "Some classes have more than ten times as many images as others: accuracy may hide that.") : null));
  }

  function filters() {
    const choice = h("select", { "aria-label": "Which records", onchange: (e) => pick(e.target.value) },
      h("option", { value: "" }, "All records"),
      found.broken ? h("option", { value: "broken", selected: params.get("broken") === "1" }, `Broken (${count(found.broken)})`) : null,
      found.classes.map((c) => h("option", { value: String(c.label), selected: params.get("label") === String(c.label) }, `${label(c)} (${count(c.count)})`)));
    choice.id = "which";
    return h("div", { class: "actions" }, choice);
  }

  function pick(value) {
    set({ label: value === "broken" ? null : value, broken: value === "broken" ? "1" : null, page: null });
    root.querySelector("#which").value = value;
    records().catch(trouble);
    heading.scrollIntoView({ block: "nearest" });
  }

  async function records() {
    const page = Number(params.get("page") || 0);
    const got = await get("/api/data/records", { name, label: params.get("label"), broken: params.get("broken"), offset: page * PAGE, limit: PAGE }, signal);
    heading.textContent = `Records (${count(got.count)})`;
    fill(grid, got.records.map((r) => h("li", {}, h("button", {
      type: "button", class: "thumb", "aria-label": `Record ${r.number}, ${r.name || `label ${r.label}`}: augment it`,
      onclick: () => { set({ record: r.number }); augment(); extra.scrollIntoView({ block: "start" }); },
    }, r.broken ? h("span", { class: "broken" }, icon("warning"), "broken")
      : h("img", { loading: "lazy", alt: "", src: address("/api/data/image", { name, number: r.number, side: 128, t: found.stamp }) }),
    h("span", { class: "quiet" }, r.label === null ? "no label" : r.name || `label ${r.label}`)), h("span", { class: "sr" }, r.key))));
    if (!got.records.length) fill(grid, h("li", { class: "whole" }, empty("No such records", "Choose another class.")));
    const last = Math.max(0, Math.ceil(got.count / PAGE) - 1);
    fill(pages, last ? [
      button("Before", () => { set({ page: page - 1 || null }); records().catch(trouble); }, { disabled: page === 0 }),
      h("span", { class: "quiet" }, `Page ${count(page + 1)} of ${count(last + 1)}`),
      button("Next", () => { set({ page: page + 1 }); records().catch(trouble); }, { disabled: page >= last }),
    ] : null);
  }

  function drawMean() {
    fill(mean, h("h2", {}, "Mean image"), found.has_mean
      ? [h("img", { class: "shown", alt: "The mean of all images", src: address("/api/data/mean", { name, t: Date.now() }) }), h("p", { class: "quiet" }, found.mean_file)]
      : [h("p", { class: "quiet" }, "It has not been computed."), h("p", {}, button("Compute it", async (e) => {
        e.currentTarget.disabled = true;
        try {
          const got = await post("/api/data/mean", { name }, signal);
          found.has_mean = true;
          found.mean_file = got.file;
          drawMean();
          toast(`Mean of the channels: ${got.channels.map((c) => number(c)).join(", ")}`);
        } catch (error) { e.target.disabled = false; trouble(error); }
      }))]);
  }

  // Crops of most of an image, and its mirror images.
  function someTransform() {
    const [, ...sides] = found.shapes[0]?.shape || [3, 224, 224];
    return `crop_size: ${Math.max(1, Math.floor(0.875 * Math.min(...sides)))}\nmirror: true\nscale: 0.00390625`;
  }

  function augmentation() {
    const text = h("textarea", { class: "code", spellcheck: "false", value: params.get("transform") || someTransform(), rows: "6" });
    const own = h("input", { type: "file", accept: "image/*" });
    const nets = h("select", { onchange: () => nets.value && takeFrom(nets.value) }, h("option", { value: "" }, "Choose a net"));
    get("/api/nets/files", {}, signal).then(({ names }) => nets.append(...names.map((n) => h("option", { value: n }, n)))).catch(trouble);
    const takeFrom = async (net) => {
      try {
        text.value = (await get("/api/data/transform", { net }, signal)).text;
        set({ transform: text.value });
        augment();
      } catch (error) { trouble(error); }
    };
    const out = h("div", { class: "form", "aria-live": "polite" });
    const box = field("transform_param", text, { note: "As in a data layer: crop_size, mirror, random_area_min, random_brightness …" });
    let seed = 0;
    augment = async () => {
      const form = new FormData();
      form.set("transform", text.value);
      form.set("seed", String(seed));
      form.set("name", name);
      form.set("number", params.get("record") || "0");
      if (own.files.length) form.set("file", own.files[0]);
      try {
        const got = await upload("/api/data/augment", form, signal);
        box.note(`The net gets ${got.shape.join(" × ")}, numbers from ${number(got.low)} to ${number(got.high)}.`);
        fill(out, h("div", { class: "eight" }, h("figure", {}, h("img", { src: got.original, alt: "The original" }), h("figcaption", { class: "quiet", title: got.original_shape.join(" × ") }, "original")),
          got.images.map((src, i) => h("figure", {}, h("img", { src, alt: `Augmented ${i + 1}` })))));
      } catch (error) {
        if (error.name !== "AbortError") box.note(error.message, true);
      }
    };
    text.addEventListener("input", paused(() => { set({ transform: text.value }); augment(); }, 300));
    own.addEventListener("change", () => augment());
    queueMicrotask(() => augment());
    return h("section", { class: "card" }, h("h2", {}, "Augmentation"), box,
      h("div", { class: "row paths" }, field("As a net has it", nets), field("Another image", own)),
      h("div", { class: "actions" }, button("Draw again", () => { seed++; augment(); })), out);
  }
}

// A class by its number, and its name if that says more.
const label = (c) => (c.name && c.name !== String(c.label) ? `${c.label} ${c.name}` : String(c.label));
