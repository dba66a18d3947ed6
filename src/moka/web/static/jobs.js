// Runs: the list, one run, several compared, a new job.

import { get, listen } from "./api.js";
import { curvesPanel, names } from "./curves.js";
import { ago, bytes, count, duration, fixed, isKnown, number, percent, plural } from "./format.js";
import { button, empty, fill, h, link, path, paused, progress, table, waiting } from "./ui.js";

export async function show(root, place) {
  const [page] = place.path;
  if (page === "run") return (await import("./run.js")).show(root, place);
  if (page === "new") return (await import("./jobform.js")).show(root, place);
  if (page === "compare") return compare(root, place);
  return list(root, place);
}

const WORDS = {
  running: ["live", "Running"], starting: ["live", "Starting"], waiting: ["", "Waiting"],
  finished: ["good", "Finished"], stopped: ["", "Stopped"], failed: ["bad", "Failed"],
  killed: ["bad", "Killed"], unfinished: ["", "Unfinished"],
};

export function tag(run) {
  const [kind, word] = WORDS[run.status] || ["", run.status];
  return h("span", { class: `tag ${kind}`, title: run.why || null }, word);
}

export const part = (run) => (isKnown(run.iteration) && run.max_iter ? Math.min(1, run.iteration / run.max_iter) : null);

// The best or last number of a test that is no loss, else its loss.
export function score(run) {
  if (run.best) return { name: run.best.output, value: run.best.value };
  const found = Object.entries(run.tests || {});
  const pick = found.find(([name]) => !name.toLowerCase().includes("loss")) || found[0];
  return pick ? { name: pick[0], value: pick[1] } : null;
}

const inWords = (s) => (s ? (s.value >= 0 && s.value <= 1 && !s.name.includes("loss") ? percent(s.value) : fixed(s.value)) : number(null));

function stateOf(run) {
  const active = ["running", "starting"].includes(run.status);
  return h("span", { class: "state" }, tag(run), active ? progress(part(run), `Progress of ${run.title}`) : null,
    run.status === "running" && isKnown(run.left_s) ? h("span", { class: "quiet" }, `${duration(run.left_s)} left`) : null);
}

async function list(root, place) {
  const { params, set, signal } = place;
  const chosen = new Set((params.get("runs") || "").split(",").filter(Boolean).map(decodeURIComponent));
  const rows = new Map();
  const body = h("div", { class: "form" });
  const load = h("p", { class: "quiet load" });
  const note = h("p", { class: "quiet" });
  const compareLink = h("span", { class: "actions" });
  const search = h("input", {
    type: "search", placeholder: "Find a run", "aria-label": "Find a run by name, net or status", value: params.get("q") || "",
    oninput: paused((e) => { set({ q: search.value }); draw(); }, 120),
  });
  fill(root,
    h("div", { class: "head" }, h("div", {}, h("h1", {}, "Runs"), note),
      h("div", { class: "actions" }, link("New job", "/jobs/new", { kind: "primary", glyph: "plus" }))),
    body);
  fill(body, waiting("Looking for runs"));

  const columns = [
    {
      name: "pick", title: h("span", { class: "sr" }, "Compare"), kind: "pick",
      cell: (r) => h("input", {
        type: "checkbox", "aria-label": `Compare ${r.title}`, checked: chosen.has(r.id),
        onchange: (e) => { if (e.target.checked) chosen.add(r.id); else chosen.delete(r.id); chose(); },
      }),
    },
    {
      name: "title", title: "Run", sort: (r) => r.title,
      cell: (r) => h("span", { class: "name" }, h("a", { href: `/jobs/run?id=${encodeURIComponent(r.id)}` }, path(r.title)),
        r.net && r.net !== r.title ? h("span", { class: "quiet" }, r.net) : null, h("span", { class: "narrow-only" }, stateOf(r))),
    },
    {
      name: "status", title: "Status", narrow: "hide", sort: (r) => r.status,
      cell: stateOf,
    },
    {
      name: "iteration", title: "Iteration", numeric: true, narrow: "hide", sort: (r) => r.iteration,
      cell: (r) => [count(r.iteration), r.max_iter ? h("span", { class: "quiet" }, ` / ${count(r.max_iter)}`) : null],
    },
    { name: "loss", title: "Loss", numeric: true, sort: (r) => r.loss, cell: (r) => fixed(r.loss) },
    {
      name: "score", title: "Test", numeric: true, sort: (r) => (score(r) ? score(r).value : null),
      cell: (r) => { const s = score(r); return h("span", { title: s ? s.name : null }, inWords(s)); },
    },
    { name: "elapsed", title: "Took", numeric: true, narrow: "hide", sort: (r) => r.elapsed_s, cell: (r) => duration(r.elapsed_s || null) },
    { name: "started", title: "Started", numeric: true, narrow: "hide", sort: (r) => r.started, cell: (r) => ago(r.started) },
  ];

  function chose() {
    set({ runs: names([...chosen]) });
    fill(compareLink, chosen.size ? [
      chosen.size > 1
        ? link(`Compare ${chosen.size} runs`, `/jobs/compare?runs=${encodeURIComponent(names([...chosen]))}`, { kind: "button", glyph: "chart" })
        : h("span", { class: "quiet" }, "Choose another run to compare"),
      button("Clear", () => { chosen.clear(); chose(); draw(); }, { kind: "plain" }),
    ] : null);
  }

  function draw() {
    const all = [...rows.values()];
    const active = all.filter((r) => ["running", "starting"].includes(r.status)).length;
    const later = all.filter((r) => r.status === "waiting").length;
    note.textContent = [plural(all.length, "run"), active && `${active} running`, later && `${later} waiting`].filter(Boolean).join(" · ");
    if (!all.length) {
      fill(body, empty("No runs yet",
        "Train a net from here, or put training logs of Moka, BVLC Caffe or NVCaffe into this folder: their curves appear by themselves.",
        link("New job", "/jobs/new", { kind: "primary", glyph: "plus" }), link("Make a data set first", "/data/new", { kind: "button" })), load);
      return;
    }
    const q = search.value.trim().toLowerCase();
    const found = all.filter((r) => !q || `${r.title} ${r.net} ${r.status}`.toLowerCase().includes(q));
    const bar = body.querySelector(".bar");
    const sort = params.get("sort") || "-started";
    const grid = found.length
      ? table(columns, found, { sort, onsort: (s) => { set({ sort: s }); draw(); }, key: (r) => r.id, caption: null })
      : empty("No run has that", `Nothing in ${plural(all.length, "run")} has "${search.value}" in its name, net or status.`);
    if (bar) { bar.nextSibling.replaceWith(grid); } else {
      fill(body, h("div", { class: "bar" }, search, compareLink), grid, load);
    }
  }

  function take(event) {
    for (const run of event.runs || []) rows.set(run.id, run);
    for (const id of event.gone || []) rows.delete(id);
    if (event.load) fill(load, loadWords(event.load));
    if (event.runs && (event.runs.length || event.gone.length || !rows.size)) {
      const focused = document.activeElement && document.activeElement.closest("td, th") ? null : true;
      if (focused || event.runs.length) draw();
    }
    if (event.unread) note.textContent += ` · reading ${plural(event.unread, "more log")}`;
  }

  chose();
  take({ ...(await get("/api/jobs/list", {}, signal)), gone: [] });
  listen("/api/jobs/events", {}, signal, take);
}

export function loadWords(load) {
  const parts = [];
  if (isKnown(load.cpu)) parts.push(`CPU ${percent(load.cpu, 0)} of ${plural(load.cores, "core")}`);
  if (isKnown(load.memory_used)) parts.push(`memory ${bytes(load.memory_used)} of ${bytes(load.memory_all)}`);
  for (const gpu of load.gpus || []) {
    parts.push(`${gpu.name} ${percent(gpu.load, 0)}, ${bytes(gpu.memory_used)} of ${bytes(gpu.memory_all)}`);
  }
  return parts.join(" · ");
}

async function compare(root, place) {
  const ids = (place.params.get("runs") || "").split(",").filter(Boolean).map(decodeURIComponent);
  if (!ids.length) {
    fill(root, empty("Nothing to compare", "Choose two runs or more in the list.", link("Runs", "/jobs", { kind: "primary" })));
    return;
  }
  const panel = curvesPanel(place, ids);
  const info = h("div", {});
  fill(root, h("div", { class: "head" }, h("div", {}, h("p", { class: "quiet" }, link("Runs", `/jobs?runs=${encodeURIComponent(names(ids))}`, { glyph: "back" })),
    h("h1", {}, `Compare ${plural(ids.length, "run")}`))), panel.element, info);
  await panel.load();
  const { runs } = await get("/api/jobs/list", {}, place.signal);
  const own = ids.map((id) => runs.find((r) => r.id === id)).filter(Boolean);
  fill(info, table([
    { name: "title", title: "Run", cell: (r) => h("a", { href: `/jobs/run?id=${encodeURIComponent(r.id)}` }, path(r.title)) },
    { name: "status", title: "Status", cell: tag },
    { name: "policy", title: "Rate policy", narrow: "hide", cell: (r) => r.policy || number(null) },
    { name: "iteration", title: "Iteration", numeric: true, narrow: "hide", cell: (r) => count(r.iteration) },
    { name: "loss", title: "Loss", numeric: true, cell: (r) => fixed(r.loss) },
    { name: "score", title: "Test", numeric: true, cell: (r) => inWords(score(r)) },
    { name: "took", title: "Took", numeric: true, narrow: "hide", cell: (r) => duration(r.elapsed_s || null) },
  ], own, { caption: "The compared runs" }));
  const live = new Set(ids);
  listen("/api/jobs/events", {}, place.signal, paused((e) => { if ((e.runs || []).some((r) => live.has(r.id))) panel.load(); }, 300));
}
