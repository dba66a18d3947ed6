// One run: where it stands, its curves, its snapshots, and what can be done with it.

import { get, listen, post } from "./api.js";
import { curvesPanel } from "./curves.js";
import { ago, bytes, count, duration, isKnown, number, percent } from "./format.js";
import { loadWords, part, score, tag } from "./jobs.js";
import { ask, button, copyLine, empty, failure, fill, h, icon, link, listing, progress, table, toast, trouble } from "./ui.js";

export async function show(root, place) {
  const { params, signal, go } = place;
  const id = params.get("id") || "";
  const parts = Object.fromEntries(["head", "why", "stats", "snapshots", "more", "load"].map((n) => [n, h("div", { class: "form" })]));
  const panel = curvesPanel(place, [id]);
  let run;
  try {
    run = await get("/api/jobs/run", { id }, signal);
  } catch (error) {
    fill(root, failure(error), h("p", {}, link("All runs", "/jobs", { kind: "button" })));
    return;
  }
  fill(root, parts.head, parts.why, parts.stats, panel.element, parts.snapshots, parts.more, parts.load);
  const logText = listing("The end of the log");
  const logBox = h("details", { ontoggle: () => logBox.open && readLog() }, h("summary", {}, "Log"), logText);
  const act = (path, fields, said) => async () => {
    try {
      await post(`/api/jobs/${path}`, { id, ...fields });
      if (said) toast(said);
      await again();
    } catch (error) { trouble(error); }
  };

  draw();
  fill(parts.more, more());
  await panel.load();

  async function again() {
    run = await get("/api/jobs/run", { id }, signal);
    draw();
    panel.load();
    if (logBox.open) readLog();
  }

  async function readLog() {
    const { text, bytes: size } = await get("/api/jobs/log", { id }, signal);
    const lines = text.split("\n").slice(-400);
    logText.textContent = (size ? lines.join("\n") : "") || "The log is empty.";
    logText.scrollTop = logText.scrollHeight;
  }

  function draw() {
    fill(parts.head, h("div", { class: "head" },
      h("div", {}, h("p", { class: "quiet" }, link("Runs", "/jobs", { glyph: "back" })), h("h1", {}, run.title),
        h("p", { class: "quiet" }, tag(run), run.net ? ` · ${run.net}` : "", run.origin ? [" · from ", h("a", { href: `/jobs/run?id=${encodeURIComponent(run.origin)}` }, run.origin)] : null)),
      h("div", { class: "actions" }, actions())));
    const done = part(run);
    const active = ["running", "starting"].includes(run.status);
    fill(parts.why, active && progress(done, "Progress of the run"),
      run.why && (["failed", "killed"].includes(run.status)
        ? failure(new Error(run.why)) : h("p", { class: "quiet" }, run.why)));
    fill(parts.stats, stats());
    fill(parts.snapshots, snapshots());
  }

  function actions() {
    if (!run.is_job) return [h("p", { class: "quiet" }, "A log of another program: it can be looked at.")];
    const found = [];
    const newest = run.snapshots.find((s) => s.state);
    if (["running", "starting"].includes(run.status)) {
      found.push(button("Stop and save", act("stop", { how: "save" }, "It saves a snapshot and stops."), { glyph: "stop" }));
      found.push(button("Snapshot", act("stop", { how: "snapshot" }, "It saves a snapshot and goes on."), { glyph: "download", hint: "Save a snapshot and go on" }));
      found.push(button("Kill", act("stop", { how: "now" }, "Killed."), { kind: "danger", hint: "End it at once, without a snapshot" }));
    } else if (run.status === "waiting" && run.why.includes("turn")) {
      found.push(button("Do not start", act("stop", { how: "save" }), { glyph: "stop" }));
    } else {
      if (newest) found.push(button("Resume", act("start", { snapshot: "auto" }), { glyph: "play", kind: run.status === "finished" ? "" : "primary", hint: `Go on from iteration ${count(newest.iteration)}` }));
      found.push(button(run.iteration === null ? "Start" : "Start afresh", act("start", {}), { glyph: "play", kind: run.iteration === null ? "primary" : "" }));
    }
    if (run.snapshots.length) found.push(link("Try it", `/try?model=${encodeURIComponent(id)}`, { kind: run.status === "finished" ? "primary" : "button", glyph: "image" }));
    found.push(button("Clone", () => go(`/jobs/new?like=${encodeURIComponent(id)}`), { glyph: "copy", hint: "A new job like this one" }));
    found.push(button("Rename", rename, { glyph: "pencil", only: true }));
    if (!["running", "starting"].includes(run.status)) found.push(button("Delete", remove, { glyph: "trash", only: true }));
    return found;
  }

  async function rename() {
    const title = await ask("Rename the job", "Title", run.title);
    if (title) await act("rename", { title })();
  }

  async function remove() {
    try {
      const { undo } = await post("/api/jobs/delete", { id });
      go("/jobs");
      toast(`${run.title} was deleted.`, {
        undo: async () => {
          try { const back = await post("/api/jobs/restore", { undo }); go(`/jobs/run?id=${encodeURIComponent(back.id)}`); } catch (error) { trouble(error); }
        },
      });
    } catch (error) { trouble(error); }
  }

  function stats() {
    const s = score(run);
    const cell = (name, value, small) => h("div", {}, h("dt", {}, name), h("dd", {}, value, small && [" ", h("small", {}, small)]));
    const isPart = s && s.value >= 0 && s.value <= 1 && !s.name.includes("loss");
    return h("dl", { class: "stats card" },
      cell("Iteration", count(run.iteration), run.max_iter ? `of ${count(run.max_iter)}` : ""),
      isKnown(run.epochs) ? cell("Epochs", number(run.epochs, 3), run.epoch ? `× ${count(run.epoch[0])} records` : "") : null,
      cell("Loss", number(run.loss)),
      s ? cell(run.best ? `Best ${s.name}` : s.name, isPart ? percent(s.value) : number(s.value), run.best ? `at ${count(run.best.iteration)}` : "") : null,
      run.status === "running" ? cell("Time left", duration(run.left_s)) : null,
      run.status === "running" ? cell("Speed", number(run.iterations_per_s, 3), "iterations/s") : null,
      cell("Took", duration(run.elapsed_s || null)),
      cell("Started", ago(run.started)),
      run.process ? cell("Process", run.process.pid, `${bytes(run.process.memory)}, ${duration(run.process.cpu_s)} of CPU`) : null);
  }

  function snapshots() {
    if (!run.snapshots.length) {
      return run.is_job || run.iteration !== null
        ? [h("h2", {}, "Snapshots"), h("p", { class: "quiet" }, run.is_job ? "None yet: the solver's field snapshot says how often one is saved." : "None of the files that the log names are in this folder.")] : null;
    }
    const idle = run.is_job && !["running", "starting", "waiting"].includes(run.status);
    return [h("h2", {}, "Snapshots"), table([
      {
        name: "iteration", title: "Iteration", numeric: true,
        cell: (s) => h("span", { class: "star" }, s.is_best ? [icon("star"), h("span", { class: "sr" }, "best ")] : null, count(s.iteration)),
      },
      { name: "file", title: "File", kind: "file", narrow: "hide", cell: (s) => [h("code", {}, s.model.split("/").pop()), s.is_best ? h("span", { class: "quiet" }, " best test") : null] },
      { name: "size", title: "Size", numeric: true, narrow: "hide", cell: (s) => bytes(s.bytes) },
      { name: "written", title: "Written", numeric: true, narrow: "hide", cell: (s) => ago(s.written) },
      {
        name: "do", title: h("span", { class: "sr" }, "Actions"), cell: (s) => h("span", { class: "actions" },
          idle && s.state ? button("Resume", act("start", { snapshot: s.state }), { kind: "plain", hint: `Go on from iteration ${s.iteration}` }) : null,
          link("Fine-tune", `/jobs/new?weights=${encodeURIComponent(s.model)}${run.is_job ? `&like=${encodeURIComponent(id)}` : ""}`, { kind: "button plain" })),
      },
    ], run.snapshots, { caption: null })];
  }

  function more() {
    if (!run.is_job) return logBox;
    return [h("h2", {}, "In a shell"), copyLine(run.shell),
      h("details", {}, h("summary", {}, "Solver"), listing("The solver", run.solver)),
      h("p", {}, link("Look at the net", `/nets?file=${encodeURIComponent(run.net_file)}`)),
      logBox];
  }

  listen("/api/jobs/events", {}, signal, (event) => {
    if (event.load) fill(parts.load, h("p", { class: "quiet" }, loadWords(event.load)));
    if ((event.gone || []).includes(id)) fill(parts.why, empty("This run is gone", "It was deleted or renamed.", link("All runs", "/jobs", { kind: "button" })));
    if ((event.runs || []).some((r) => r.id === id)) again().catch(trouble);
  });
}
