// The form for a new job. The server makes the solver of its fields, and says what is wrong.

import { get, post } from "./api.js";
import { chart } from "./chart.js";
import { count, isKnown, number, plural } from "./format.js";
import { button, choice, failure, field, fill, h, link, paused, select, toast, trouble } from "./ui.js";

const FIRST = new Set(["Length", "Learning rate"]);

export async function show(root, place) {
  const { params, signal, go } = place;
  const form = await get("/api/jobs/form", { like: params.get("like"), weights: params.get("weights") }, signal);
  const { start } = form;
  const inputs = new Map(), boxes = new Map();
  const title = h("input", { type: "text", value: params.get("like") && params.get("weights") ? `${start.title} fine-tuned` : start.title, placeholder: "After the net's name", autocomplete: "off" });
  const net = h("input", { type: "text", list: "nets", value: params.get("net") || start.net || "", placeholder: "Choose a prototxt", autocomplete: "off" });
  const netText = h("textarea", { class: "code", spellcheck: "false", placeholder: 'name: "LeNet"\nlayer { … }' });
  const weights = h("input", { type: "text", value: start.weights, placeholder: "None: it starts from the fillers", autocomplete: "off" });
  const data = {
    train_data: h("input", { type: "text", value: params.get("train_data") || "", list: "sets", placeholder: "As the net says", autocomplete: "off" }),
    test_data: h("input", { type: "text", value: params.get("test_data") || "", list: "sets", placeholder: "As the net says", autocomplete: "off" }),
    mean_file: h("input", { type: "text", value: params.get("mean_file") || "", placeholder: "As the net says", autocomplete: "off" }),
    classes: h("input", { type: "text", inputmode: "numeric", value: params.get("classes") || "", placeholder: "As the net says", autocomplete: "off" }),
  };
  const extra = h("textarea", { class: "code", spellcheck: "false", value: start.fields.extra || "", placeholder: "clip_value: 5" });
  const inFile = { now: true };
  const netBox = field("Net", net), pasteBox = field("Net as text", netText, { note: "A pasted net may not have layers that run code of their own or write files." });
  pasteBox.hidden = true;
  const problems = h("ul", { class: "problems", "aria-live": "polite" });
  const rate = chart({ title: "Learning rate", height: 200, legend: false });
  const solverText = h("pre", { class: "code", tabindex: "0", "aria-label": "The solver" });
  const epochNote = h("p", { class: "quiet" });
  const go_ = button("Start", () => make(true), { kind: "primary", glyph: "play" });
  const check = button("Check", dryRun, { hint: "What it will need, and every problem: caffe train --dry_run" });
  const checked = h("div", { class: "form", "aria-live": "polite" });
  const keep = button("Make without starting", () => make(false));

  function groupOf(group) {
    const cells = group.fields.map((f) => {
      const value = start.fields[f.name] || "";
      const input = f.choices.length
        ? select([["", f.default && f.name !== "lr_policy" ? `${f.default} (default)` : "–"], ...f.choices], value, changed)
        : h("input", { type: "text", value, inputmode: f.name === "snapshot_best" ? "text" : "decimal", placeholder: f.default, autocomplete: "off", oninput: changed });
      input.name = f.name;
      inputs.set(f.name, input);
      const box = field(f.name, input, { unit: f.unit });
      box.title = f.help.length > 240 ? `${f.help.slice(0, 240)}…` : f.help;
      boxes.set(f.name, box);
      return box;
    });
    const row = h("div", { class: "row" }, cells);
    const open = FIRST.has(group.title) || group.title === "Tests" || group.title === "Snapshots";
    return h("details", { class: "card", open }, h("summary", {}, group.title), row);
  }

  const groups = form.groups.map(groupOf);
  const from = choice("Net", [["file", "From a file"], ["text", "Paste a net"]], "file", (kind) => {
    inFile.now = kind === "file";
    netBox.hidden = !inFile.now;
    pasteBox.hidden = inFile.now;
    changed();
  });
  for (const input of [title, net, netText, weights, extra, ...Object.values(data)]) input.addEventListener("input", changed);

  const dataNames = [["train_data", "Training data"], ["test_data", "Test data"], ["mean_file", "Mean file"], ["classes", "Classes"]];
  fill(root,
    h("datalist", { id: "nets" }, form.nets.map((n) => h("option", { value: n }))),
    h("datalist", { id: "sets" }, (form.sets || []).map((n) => h("option", { value: n }))),
    h("div", { class: "head" }, h("div", {}, h("p", { class: "quiet" }, link("Runs", "/jobs", { glyph: "back" })), h("h1", {}, "New job"))),
    h("div", { class: "two wide-left" },
      h("form", { class: "form", onsubmit: (e) => { e.preventDefault(); make(true); } },
        h("section", { class: "card" }, h("h2", {}, "Net and data"), from, netBox, pasteBox,
          h("div", { class: "row" }, field("Title", title), field("Weights to start from", weights, { note: "A .caffemodel: fine-tunes it." })),
          h("details", { open: Object.values(data).some((i) => i.value) }, h("summary", {}, "Other data than the net names"),
            h("div", { class: "row" }, dataNames.map(([k, label]) => field(label, data[k]))))),
        h("p", { class: "quiet" }, "Several values with commas between them, such as 0.1, 0.01 in base_lr, make a job for each combination."),
        groups,
        h("details", { class: "card", open: !!extra.value }, h("summary", {}, "More fields, as prototxt"), field("More of the solver", extra))),
      h("aside", { class: "form sticky", "aria-label": "What this makes" },
        h("section", { class: "card" }, h("h2", {}, "Learning rate"), rate.element, epochNote),
        problems,
        h("div", { class: "actions" }, go_, check, keep),
        checked,
        h("details", {}, h("summary", {}, "Solver"), solverText))));

  const fieldsNow = () => ({
    ...Object.fromEntries([...inputs].map(([name, input]) => [name, input.value])), extra: extra.value,
  });
  const values = () => ({
    fields: fieldsNow(), title: title.value, weights: weights.value, origin: start.origin || "",
    net: inFile.now ? net.value : "", net_text: inFile.now ? "" : netText.value,
    ...Object.fromEntries(Object.entries(data).map(([k, input]) => [k, input.value])),
  });

  let asked = 0;
  const ask = paused(async () => {
    const mine = ++asked;
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
    for (const [name, box] of boxes) box.note(isKnown(epochs[name]) ? `${number(epochs[name], 3)} epochs` : "");
    fill(epochNote, epoch ? `An epoch is ${number(epoch.records / (epoch.batch * (Number(inputs.get("iter_size").value) || 1)), 4)} iterations: ${plural(epoch.records, "record")} in batches of ${count(epoch.batch)}.`
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
      fill(checked, said.map((p) => failure(new Error(p))), ok || text ? h("pre", { class: "code", tabindex: "0", "aria-label": "What the job needs" }, needs) : null);
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
