// The form for a new data set, with the source's first image as it would be stored.

import { address, get, post } from "./api.js";
import { count, plural } from "./format.js";
import { button, field, fill, h, link, paused, select, toast, trouble } from "./ui.js";

const MODES = [["squash", "Squash", "each side by its own factor"], ["crop", "Crop", "keeps the shape, cuts off the rest"],
  ["fill", "Fill", "keeps the shape, black around it"], ["half_crop", "Half crop", "between crop and fill"]];

export async function show(root, place) {
  const { params, set, signal, go } = place;
  const { sets, folder } = await get("/api/data/list", {}, signal);
  const text = (value, more = {}) => h("input", { type: "text", value, autocomplete: "off", ...more });
  const source = text(params.get("source") || "", { list: "sources", placeholder: "photos, or photos.txt, or a database" });
  const target = text(params.get("target") || "", { placeholder: "data/photos" });
  const side = (name) => text(params.get(name) || "", { inputmode: "numeric", placeholder: "As it is" });
  const height = side("height"), width = side("width"), test = text("20", { inputmode: "decimal" }), seed = text("0", { inputmode: "numeric" });
  const color = select([["", "Color"], ["1", "Gray"]], params.get("gray") || "", later);
  const encoding = select([["", "Raw bytes"], ["png", "PNG"], ["jpg", "JPEG"]], "", later);
  const backend = select([["lmdb", "LMDB"], ["leveldb", "LevelDB"]], "lmdb", later);
  let mode = params.get("mode") || "squash";
  const sourceBox = field("Source", source), targetBox = field("Name", target, { note: "A new folder below this one." });
  const modes = h("div", { class: "modes", role: "radiogroup", "aria-label": "How images are resized" });
  const about = h("div", { class: "form", "aria-live": "polite" });
  const start = button("Make it", make, { kind: "primary", glyph: "play" });

  fill(root, h("datalist", { id: "sources" }, sets.map((s) => h("option", { value: s.name }))),
    h("div", { class: "head" }, h("div", {}, h("p", { class: "quiet" }, link("Data sets", "/data", { glyph: "back" })), h("h1", {}, "New data set"),
      h("p", { class: "quiet" }, `Names start at ${folder}`))),
    h("div", { class: "two wide-left" },
      h("form", { class: "form", onsubmit: (e) => { e.preventDefault(); make(); } },
        h("section", { class: "card" }, h("h2", {}, "From"), sourceBox, targetBox),
        h("section", { class: "card" }, h("h2", {}, "Images"),
          h("div", { class: "row" }, field("Height", height, { unit: "pixels" }), field("Width", width, { unit: "pixels" }),
            field("Channels", color), field("Stored as", encoding)),
          modes),
        h("section", { class: "card" }, h("h2", {}, "Division"),
          h("div", { class: "row" }, field("For testing", test, { unit: "percent of each class" }), field("Seed", seed, { note: "The same one divides alike." }), field("Database", backend)))),
      h("aside", { class: "form sticky", "aria-label": "What is in the source" }, about, h("div", { class: "actions" }, start))));

  const values = () => ({
    source: source.value.trim(), target: target.value.trim(), resize_height: height.value, resize_width: width.value,
    resize_mode: mode, gray: color.value, encode_type: encoding.value, backend: backend.value, test: test.value, seed: seed.value,
  });

  let known = "", found = null;
  const look = paused(async () => {
    set({ source: source.value, target: target.value, height: height.value, width: width.value, gray: color.value, mode: mode === "squash" ? null : mode });
    if (source.value !== known) {
      known = source.value;
      found = null;
      sourceBox.note("");
      if (known) {
        try {
          found = await get("/api/data/source", { source: known }, signal);
          if (!target.value) target.value = `data/${known.split("/").filter(Boolean).pop().replace(/\.\w+$/, "")}`;
        } catch (error) { if (error.name !== "AbortError") sourceBox.note(error.message, true); }
      }
    }
    draw();
  }, 250);
  function later() { look(); }
  for (const input of [source, target, height, width, test, seed]) input.addEventListener("input", later);

  function draw() {
    start.disabled = !found || !target.value.trim();
    if (!found) {
      fill(modes);
      fill(about, h("section", { class: "card" }, h("h2", {}, "Source"), h("p", { class: "quiet" }, "Choose a folder with a subfolder for each class, a list with a path and a label on each line, or a database. What is in it appears here.")));
      return;
    }
    const sized = height.value && width.value;
    const shown = sized ? MODES : [["squash", "As it is", found.shape.join(" × ")]];
    fill(modes, shown.map(([key, label, hint]) => h("label", { class: "mode" },
      h("input", { type: "radio", name: "mode", value: key, checked: key === mode || !sized, onchange: () => { mode = key; look(); } }),
      h("img", { alt: `The first image, ${label.toLowerCase()}`, src: address("/api/data/resized", { source: known, mode: key, height: height.value, width: width.value, gray: color.value }) }),
      h("span", {}, h("b", {}, label), h("span", { class: "quiet" }, ` ${hint}`)))));
    const kinds = { folder: "Folder of classes", list: "List", database: "Database" };
    const many = found.classes || [];
    fill(about, h("section", { class: "card" }, h("h2", {}, kinds[found.kind]),
      h("p", {}, plural(found.count, "image"), many.length ? ` of ${plural(many.length, "class", "classes")}` : ""),
      h("p", { class: "quiet" }, `The first has ${found.shape.join(" × ")} (channels × height × width).`),
      many.length ? h("ul", { class: "bars" }, many.slice(0, 20).map((c) => h("li", {}, h("span", {}, c.name),
        h("span", { class: "track" }, h("span", { class: "filled", style: { width: `${(100 * c.count) / Math.max(...many.map((m) => m.count))}%` } })),
        h("span", { class: "numeric" }, count(c.count))))) : null));
  }

  async function make() {
    try {
      await post("/api/data/make", values(), signal);
      toast("It is being made.");
      go("/data");
    } catch (error) {
      if (error.message.includes("there already")) targetBox.note(error.message, true);
      else trouble(error);
    }
  }
  look();
}
