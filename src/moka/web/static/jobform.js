// The form for a new job. The server makes the solver of its fields, and says what is wrong.

import { get, post } from "./api.js";
import { chart } from "./chart.js";
import { count, isKnown, number, plural } from "./format.js";
import { button, choice, failure, field, fill, h, link, listing, paused, select, toast, trouble } from "./ui.js";

const OPEN = new Set(["Length", "Learning rate", "Tests", "Snapshots"]);
const HINT = 240; // letters

export async function show(root, place) {
  const { params, set, signal, go } = place;
  const [form, { sets }] = await Promise.all([
    get("/api/jobs/form", { like: params.get("like") }, signal), get("/api/data/list", {}, signal)]);
  const { start } = form;
  const inputs = new Map(), boxes = new Map(); // of the solver, by the field's name
  const known = []; // [name in the address, input, what it begins with]
  const given = (name, first = "") => params.get(name) ?? first;
  function text(name, first, more = {}) {
    const input = h("input", { type: "text", value: given(name, first), autocomplete: "off", oninput: changed, ...more });
    known.push([name, input, first || ""]);
    return input;
  }
  function choose(name, first, options) {
    const input = select(options, given(name, first), changed);
    known.push([name, input, first]);
    return input;
  }
  const title = text("title", params.get("like") && params.get("weights") ? `${start.title} fine-tuned` : start.title, { placeholder: "After the net's name" });
  const net = text("net", start.net, { list: "nets", placeholder: "Choose a prototxt" });
  const netText = h("textarea", { class: "code", spellcheck: "false", placeholder: 'name: "LeNet"\nlayer { … }', oninput: changed });
  const weights = text("weights", start.weights, { placeholder: "None: it starts from the fillers" });
  const asNet = { placeholder: "As the net says" };
  const data = {
    train_data: text("train_data", "", { list: "sets", ...asNet }),
    test_data: text("test_data", "", { list: "sets", ...asNet }),
    mean_file: text("mean_file", "", asNet),
    classes: text("classes", "", { inputmode: "numeric", ...asNet }),
  };
  const devices = {
    workers: text("workers", start.devices.workers, { inputmode: "numeric", placeholder: "1" }),
    gpu: text("gpu", start.devices.gpu, { placeholder: "As solver_mode says" }),
    strong: choose("strong", start.devices.strong || "", [["", "A batch each"], ["true", "One batch, divided"]]),
  };
  const extra = h("textarea", { class: "code", spellcheck: "false", value: given("extra", start.fields.extra), placeholder: "clip_value: 5", oninput: changed });
  known.push(["extra", extra, start.fields.extra || ""]);
  const inFile = { now: true };
  const netBox = field("Net", net), pasteBox = field("Net as text", netText, { note: "A pasted net may not have layers that run code of their own or write files." });
  pasteBox.hidden = true;
  const problems = h("ul", { class: "problems", "aria-live": "polite" });
  const rate = chart({ title: "Learning rate", height: 180, legend: false });
  const solverText = listing("The solver");
  const epochNote = h("p", { class: "quiet" });
  const go_ = button("Start", () => make(true), { kind: "primary", glyph: "play" });
  const check = button("Check", dryRun, { hint: "What it will need, and every problem: caffe train --dry_run" });
  const checked = h("div", { class: "form", "aria-live": "polite" });
  const keep = button("Make without starting", () => make(false));

  function groupOf(group) {
    const cells = group.fields.map((f) => {
      const value = start.fields[f.name] || "";
      const input = f.choices.length
        ? choose(f.name, value === f.default ? "" : value, [["", f.default || "–"], ...f.choices.filter((c) => c !== f.default)])
        : text(f.name, value, { inputmode: f.name === "snapshot_best" ? "text" : "decimal", placeholder: f.default });
      inputs.set(f.name, input);
      return boxOf(f.name, f.name, input, f.help, f.unit);
    });
    if (group.title === "Machine") {
      for (const { name, help } of form.devices) cells.push(boxOf(name, { workers: "Processes", gpu: "GPUs", strong: "They take" }[name], devices[name], help));
    }
    const row = h("div", { class: "row" }, cells);
    return h("details", { class: "card", open: OPEN.has(group.title) || cells.some((c) => params.has(c.name)) }, h("summary", {}, group.title), row,
      group.title === "Learning rate" && [h("p", { class: "chart-title" }, "Rate", h("span", { class: "quiet" }, " by iteration")), rate.element]);
  }

  function boxOf(name, label, input, help, unit = "") {
    const box = field(label, input, { unit });
    box.title = help.length > HINT ? `${help.slice(0, HINT)}…` : help;
    box.name = name;
    boxes.set(name, box);
    return box;
  }

  const groups = form.groups.map(groupOf);
  const from = choice("Net", [["file", "From a file"], ["text", "Paste a net"]], "file", (kind) => {
    inFile.now = kind === "file";
    netBox.hidden = !inFile.now;
    pasteBox.hidden = inFile.now;
    changed();
  });

  const dataNames = [["train_data", "Training data"], ["test_data", "Test data"], ["mean_file", "Mean file"], ["classes", "Classes"]];
  fill(root,
    h("datalist", { id: "nets" }, form.nets.map((n) => h("option", { value: n }))),
    h("datalist", { id: "sets" }, sets.map((s) => h("option", { value: s.name }))),
    h("div", { class: "head" }, h("div", {}, h("p", { class: "quiet" }, link("Runs", "/jobs", { glyph: "back" })), h("h1", {}, "New job"))),
    h("div", { class: "two wide-left" },
      h("form", { class: "form", onsubmit: (e) => { e.preventDefault(); make(true); } },
        h("section", { class: "card" }, h("h2", {}, "Net and data"), from, netBox, pasteBox,
          h("div", { class: "row paths" }, field("Title", title), field("Weights to start from", weights, { note: "A .caffemodel: fine-tunes it." })),
          h("details", { open: Object.values(data).some((i) => i.value) }, h("summary", {}, "Other data than the net names"),
            h("div", { class: "row paths" }, dataNames.map(([k, label]) => field(label, data[k]))))),
        h("p", { class: "quiet" }, "Several values with commas between them, such as 0.1, 0.01 in base_lr, make a job for each combination."),
        groups,
        h("details", { class: "card", open: !!extra.value }, h("summary", {}, "More fields, as prototxt"), field("More of the solver", extra))),
      h("aside", { class: "form sticky", "aria-label": "What this makes" },
        problems,
        h("div", { class: "actions" }, go_, check, keep),
        epochNote, checked,
        h("section", { class: "card" }, h("h2", {}, "Solver"), solverText))));

  const fieldsNow = () => ({
    ...Object.fromEntries([...inputs].map(([name, input]) => [name, input.value])), extra: extra.value,
  });
  const values = () => ({
    fields: fieldsNow(), title: title.value, weights: weights.value, origin: start.origin || "",
    net: inFile.now ? net.value : "", net_text: inFile.now ? "" : netText.value,
    ...Object.fromEntries(Object.entries({ ...data, ...devices }).map(([k, input]) => [k, input.value])),
  });

  let asked = 0;
  const ask = paused(async () => {
    const mine = ++asked;
    set(Object.fromEntries(known.map(([name, input, first]) => [name, input.value === first ? null : input.value])));
    try {
      const found = await post("/api/jobs/preview", values(), signal);
      if (mine === asked) draw(found);
    } catch (error) { if (mine === asked) trouble(error); }
  }, 150);

  function changed() {
    const policy = inputs.get("lr_policy").value;
    const own = form.policies[policy];
    const all = new Set(Object.values(form.policies).flat());
    for (const name of all) boxes.get(name).hidden = !!own && !own.includes(name);
    ask();
  }

  function draw(found) {
    rate.show(found.rates.length ? [{ label: inputs.get("lr_policy").value, color: "c0", x: found.iterations, y: found.rates, bare: true }] : []);
    solverText.textContent = found.text;
    const { epoch, epochs } = found;
    for (const [name, box] of boxes) box.note(isKnown(epochs[name]) ? `${number(epochs[name], 3)}\u00a0epochs` : "");
    fill(epochNote, epoch ? `An epoch is ${number(epoch.records / epoch.taken, 4)} iterations: ${plural(epoch.records, "record")}, ${count(epoch.taken)} an iteration.`
      : "Choose a net whose data is there to see iterations in epochs.");
    const said = [found.problem, ...found.net_problems].filter(Boolean);
    for (const [name, box] of boxes) {
      const wrong = found.problem && new RegExp(`\\b${name}\\b`).test(found.problem);
      if (wrong) box.note(found.problem, true);
    }
    fill(problems, said.map((text) => h("li", {}, failure(new Error(text)))));
    const has = inFile.now ? net.value : netText.value;
    go_.disabled = keep.disabled = check.disabled = said.length > 0 || !has;
    go_.querySelector("span").textContent = found.jobs > 1 ? `Start ${count(found.jobs)} jobs` : "Start";
  }

  async function dryRun() {
    check.disabled = true;
    fill(checked, h("p", { class: "quiet" }, "Checking: the net is built and a few iterations are timed …"));
    try {
      const { ok, text, problems: said } = await post("/api/jobs/check", values(), signal);
      const needs = text.slice(Math.max(0, text.indexOf("Memory:")));
      fill(checked, said.map((p) => failure(new Error(p))), ok || text ? listing("What the job needs", needs) : null);
    } catch (error) { fill(checked, failure(error)); }
    check.disabled = false;
  }

  async function make(starts) {
    try {
      const { ids } = await post("/api/jobs/make", { ...values(), start: starts }, signal);
      toast(ids.length > 1 ? `${plural(ids.length, "job")} made.` : "The job was made.");
      go(ids.length > 1 ? "/jobs" : `/jobs/run?id=${encodeURIComponent(ids[0])}`);
    } catch (error) { trouble(error); }
  }

  changed();
}
