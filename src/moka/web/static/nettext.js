// A prototxt: what is wrong with it, its layers as a table, and as a graph.

import { get, post } from "./api.js";
import { bytes, count } from "./format.js";
import { adds } from "./models.js";
import { showGraph } from "./netgraph.js";
import { kept, openText } from "./nets.js";
import { button, empty, failure, field, fill, h, paused, save, select, table, toast, trouble } from "./ui.js";

const EXAMPLE = `name: "Example"
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 3 dim: 32 dim: 32 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 16 kernel_size: 3 pad: 1 } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "ip1" type: "InnerProduct" bottom: "pool1" top: "ip1"
  inner_product_param { num_output: 10 } }
layer { name: "prob" type: "Softmax" bottom: "ip1" top: "prob" }
`;

export async function showText(root, place) {
  const store = kept("net", place.signal);
  const area = h("textarea", { class: "code", rows: 18, spellcheck: "false", autocapitalize: "off", autocomplete: "off", "aria-label": "The net's prototxt", "aria-describedby": "net-problem", placeholder: "Paste a prototxt here, or open a file." });
  const gutter = h("pre", { class: "gutter", "aria-hidden": "true" });
  const said = h("div", { id: "net-problem", role: "status" });
  const told = h("div", { class: "page" });
  let times = null;
  let asked = 0;

  function number_lines(wrong = 0) {
    const lines = area.value.split("\n").length;
    fill(gutter, Array.from({ length: lines }, (_, i) => i + 1 === wrong ? h("b", {}, `${i + 1}\n`) : `${i + 1}\n`));
    gutter.scrollTop = area.scrollTop;
  }
  function goTo(line) {
    const lines = area.value.split("\n");
    const start = lines.slice(0, line - 1).reduce((sum, text) => sum + text.length + 1, 0);
    area.focus();
    area.setSelectionRange(start, start + (lines[line - 1] || "").length);
    area.scrollTop = Math.max(0, (line - 6) * parseFloat(getComputedStyle(area).lineHeight));
    area.scrollIntoView({ block: "nearest" });
  }

  async function check() {
    const mine = ++asked;
    store.set(place.params.get("file") ? "" : area.value);
    number_lines();
    if (!area.value.trim()) {
      fill(said);
      fill(told, empty("No net yet", "Paste a prototxt or open one: it is checked as you type, and drawn.", button("Show an example", () => set(EXAMPLE))));
      return;
    }
    try {
      const found = await post("/api/nets/check", { text: area.value, state: place.params.get("state") || "" }, place.signal);
      if (mine === asked) shown(found);
    } catch (error) {
      if (error.name !== "AbortError" && mine === asked) fill(said, failure(error));
    }
  }

  function shown(found) {
    const wrong = found.problem;
    number_lines(wrong?.line);
    area.toggleAttribute("aria-invalid", Boolean(wrong));
    fill(said, wrong
      ? h("div", { class: "error" }, h("span", {},
        wrong.line && h("button", { type: "button", class: "place", onclick: () => goTo(wrong.line) }, `Line ${wrong.line}${wrong.column ? `, column ${wrong.column}` : ""}`),
        wrong.layer && h("b", {}, `${wrong.layer}: `), wrong.message, wrong.advice && h("em", {}, ` ${wrong.advice}`)))
      : h("p", { class: "tag good" }, "This net can be built."));
    if (!found.layers.length) { fill(told); return; }
    const state = found.states.length > 1 && select(found.states, found.state, (value) => { place.set({ state: value }); times = null; check(); });
    const graph = h("section", { class: "card" });
    const rows = h("div");
    fill(told,
      h("dl", { class: "stats card" }, [["Layers", count(found.totals.layers)], ["Parameters", count(found.totals.parameters)], ["Multiply-adds", adds(found.totals.multiply_adds)], ["Memory of blobs", bytes(found.totals.output_bytes)]]
        .map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
      found.notes.length > 0 && h("p", { class: "quiet" }, found.notes.join(" ")),
      graph,
      h("section", { class: "page" }, h("div", { class: "head" }, h("h2", {}, "Layers"), h("div", { class: "actions" },
        state && h("label", { class: "inline" }, h("span", { class: "unit" }, "Phase"), state),
        !wrong && button("Measure", () => measure(found, rows), { hint: "Run the net a few times and take the time of each layer" }),
        button("CSV", () => save(`${found.name || "net"}.csv`, new Blob([csv(found)], { type: "text/csv" })), { glyph: "download" }))), rows));
    draw_rows(found, rows);
    showGraph(graph, { text: area.value, state: found.state }, place, goTo, found);
  }

  function draw_rows(found, rows) {
    const sort = place.params.get("sort") || "";
    const timeOf = (layer) => times?.get(layer.name);
    fill(rows, table([
      { name: "name", title: "Layer", head: true, cell: (l) => l.line ? h("button", { type: "button", class: "sort", onclick: () => goTo(l.line) }, l.name) : l.name, sort: (l) => l.name },
      { name: "type", title: "Type", cell: (l) => l.type, sort: (l) => l.type },
      { name: "shape", title: "Output", cell: (l) => l.tops.map((t) => t.shape || t.name).join(", ") },
      { name: "parameters", title: "Parameters", numeric: true, cell: (l) => l.count ? count(l.count) : "", sort: (l) => l.count },
      { name: "multiply_adds", title: "Multiply-adds", numeric: true, cell: (l) => l.multiply_adds ? adds(l.multiply_adds) : "", sort: (l) => l.multiply_adds },
      { name: "memory", title: "Memory", numeric: true, cell: (l) => l.output_bytes ? bytes(l.output_bytes) : "", sort: (l) => l.output_bytes },
      times && { name: "forward", title: "Forward, ms", numeric: true, cell: (l) => timeOf(l) ? timeOf(l).forward_ms.toFixed(2) : "", sort: (l) => timeOf(l)?.forward_ms },
      times && { name: "backward", title: "Backward, ms", numeric: true, cell: (l) => timeOf(l) ? timeOf(l).backward_ms.toFixed(2) : "", sort: (l) => timeOf(l)?.backward_ms },
    ].filter(Boolean), found.layers, { caption: times ? "Times: means of some passes with numbers by chance" : "Numbers are those of one batch", sort, onsort: (value) => { place.set({ sort: value }); draw_rows(found, rows); } }));
  }

  async function measure(found, rows) {
    toast("Measuring …");
    try {
      const told = await post("/api/nets/time", { text: area.value, state: found.state }, place.signal);
      times = new Map(told.layers.map((l) => [l.name, l]));
      draw_rows(found, rows);
    } catch (error) {
      if (error.name !== "AbortError") toast(error.message, { wrong: true });
    }
  }

  function csv(found) {
    const names = ["name", "type", "bottoms", "tops", "parameters", "count", "multiply_adds", "output_bytes", ...(times ? ["forward_ms", "backward_ms"] : [])];
    const quoted = (value) => /[",\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
    const safe = (value) => /^[=+\-@\t]/.test(value) && Number.isNaN(Number(value)) ? `'${value}` : value;
    return [names, ...found.layers.map((l) => [l.name, l.type, l.bottoms.join(" "), l.tops.map((t) => `${t.name} ${t.shape}`.trim()).join("; "), l.parameters.join("; "), l.count ?? "", l.multiply_adds ?? "", l.output_bytes ?? "",
      ...(times ? [times.get(l.name)?.forward_ms ?? "", times.get(l.name)?.backward_ms ?? ""] : [])])]
      .map((row) => row.map((value) => quoted(safe(String(value)))).join(",")).join("\n") + "\n";
  }

  function set(text, file = "") {
    place.set({ file, state: null, open: null, sort: null });
    files.value = file;
    area.value = text;
    times = null;
    check();
  }

  const textOf = async (name) => (await get("/api/nets/file", { name }, place.signal)).text;
  const open = (name) => name && textOf(name).then((text) => set(text, name)).catch(trouble);

  const soon = paused(() => { place.set({ file: null }); files.value = ""; times = null; check(); }, 300);
  area.addEventListener("input", () => { number_lines(); soon(); });
  area.addEventListener("scroll", () => { gutter.scrollTop = area.scrollTop; });
  area.addEventListener("dragover", (event) => event.preventDefault());
  area.addEventListener("drop", async (event) => { const file = event.dataTransfer.files[0]; if (file) { event.preventDefault(); set(await file.text()); } });
  const { names } = await get("/api/nets/files", {}, place.signal);
  const file = place.params.get("file");
  const files = select([["", "Choose a net"], ...names], file, open);
  fill(root, h("section", { class: "page" }, h("div", { class: "actions" }, names.length > 0 && field("In the folder", files), openText(set), button("Clear", () => set(""), {})),
    h("div", { class: "editor" }, gutter, area), said), told);
  area.value = file ? await textOf(file) : await store.get();
  await check();
}
