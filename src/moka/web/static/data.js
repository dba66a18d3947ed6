// Data sets: the list, one set, a new one, augmentation.

import { get, post } from "./api.js";
import { ago, bytes, count, plural } from "./format.js";
import { button, empty, failure, fill, h, link, path, progress, table, trouble, waiting } from "./ui.js";

export async function show(root, place) {
  const [page] = place.path;
  if (page === "set") return (await import("./dataset.js")).show(root, place);
  if (page === "new") return (await import("./dataform.js")).show(root, place);
  return list(root, place);
}

const enc = encodeURIComponent;

async function list(root, place) {
  const { params, set, signal } = place;
  const note = h("p", { class: "quiet" });
  const making = h("div", { class: "form" });
  const body = h("div", { class: "form" }, waiting("Looking for data sets"));
  fill(root,
    h("div", { class: "head" }, h("div", {}, h("h1", {}, "Data sets"), note),
      h("div", { class: "actions" }, link("New data set", "/data/new", { kind: "primary", glyph: "plus" }))),
    making, body);

  let known = "";
  async function load() {
    const found = await get("/api/data/list", {}, signal);
    fill(making, found.making.map(maker));
    const now = JSON.stringify(found.sets);
    if (now !== known) { known = now; draw(found.sets); }
    if (found.making.some((m) => m.status === "running") && !signal.aborted) setTimeout(() => load().catch(trouble), 700);
  }

  function maker(m) {
    return h("section", { class: "card" },
      h("div", { class: "head" }, h("div", {}, h("h2", {}, m.target),
        h("p", { class: "quiet" }, m.status === "running"
          ? `Making it of ${m.source}: ${count(m.done)} of ${m.total === null ? "…" : plural(m.total, "image")}` : `It could not be made of ${m.source}.`)),
      button(m.status === "running" ? "Stop" : "Put away", async () => {
        try { await post("/api/data/stop", { id: m.id }); await load(); } catch (error) { trouble(error); }
      })),
      m.status === "running" ? progress(m.total ? m.done / m.total : null, `Progress of ${m.target}`) : failure(new Error(m.error || "The process ended without a word.")),
      h("details", {}, h("summary", {}, "In a shell"), h("code", {}, m.shell)));
  }

  function draw(sets) {
    note.textContent = plural(sets.length, "data set");
    if (!sets.length) {
      fill(body, empty("No data sets yet",
        "Put a folder with a subfolder of images for each class into this folder, a list of images with labels, or a database. Then make a data set of it: databases for training and testing, and their mean image.",
        link("New data set", "/data/new", { kind: "primary", glyph: "plus" })));
      return;
    }
    fill(body, table([
      { name: "name", title: "Name", sort: (s) => s.name, cell: (s) => h("span", { class: "name" }, h("a", { href: `/data/set?name=${enc(s.name)}` }, path(s.name))) },
      { name: "kind", title: "Kind", sort: (s) => s.kind, cell: (s) => (s.kind === "folder" ? "Folder of classes" : s.backend === "lmdb" ? "LMDB" : "LevelDB") },
      { name: "records", title: "Records", numeric: true, narrow: "hide", sort: (s) => s.records, cell: (s) => count(s.records) },
      { name: "size", title: "Size", numeric: true, sort: (s) => s.bytes, cell: (s) => bytes(s.bytes) },
      { name: "written", title: "Written", numeric: true, narrow: "hide", sort: (s) => s.written, cell: (s) => ago(s.written) },
      { name: "do", title: h("span", { class: "sr" }, "Actions"), narrow: "hide", cell: (s) => link("Make a data set of it", `/data/new?source=${enc(s.name)}`, { kind: "button plain" }) },
    ], sets, { sort: params.get("sort") || "name", onsort: (s) => { set({ sort: s }); draw(sets); } }));
  }

  await load();
}
