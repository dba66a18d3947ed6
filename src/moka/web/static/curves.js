// The curves of some runs, with what the reader chooses of them: axis, smoothing, names.

import { address, get } from "./api.js";
import { chart, color } from "./chart.js";
import { count, duration, number, percent } from "./format.js";
import { button, choice, empty, fill, h, trouble } from "./ui.js";

const KINDS = [["loss", "Loss"], ["output", "Test outputs"], ["rate", "Learning rate"]];
const AXES = { iteration: count, epoch: number, time: duration };

export const names = (ids) => ids.map(encodeURIComponent).join(",");

// Returns { element, load }: `load` fetches the curves anew.
export function curvesPanel(place, ids) {
  const { params, set, signal } = place;
  const charts = new Map();
  const body = h("div", { class: "form" });
  const picks = h("div", { class: "actions" });
  const nothing = empty("No numbers yet", "Curves appear with the first display of the training or its first test.");
  const unknown = h("p", { class: "note" }, "How many records an epoch has is not known for every run; those are shown by iteration / 1,000.");
  let data = { runs: [] };

  const smoothing = h("input", {
    type: "range", min: "0", max: "0.99", step: "0.01", value: params.get("smooth") || "0", "aria-label": "Smoothing",
    oninput: (e) => { said.textContent = Number(e.target.value) ? e.target.value : "off"; },
    onchange: (e) => { set({ smooth: Number(e.target.value) || null }); load(); },
  });
  const said = h("output", { class: "unit" }, Number(smoothing.value) ? smoothing.value : "off");
  const axis = choice("Against", [["iteration", "Iteration"], ["epoch", "Epoch"], ["time", "Time"]], params.get("x") || "iteration",
    (x) => { set({ x: x === "iteration" ? null : x }); draw(); });
  const log = h("label", { class: "check" }, h("input", {
    type: "checkbox", checked: params.get("log") === "1",
    onchange: (e) => { set({ log: e.target.checked ? "1" : null }); draw(); },
  }), "Log axis");
  const controls = h("div", { class: "controls" }, axis,
    h("label", { class: "check smooth", title: "Of the training; tests are means already" }, "Smoothing", smoothing, said), log,
    h("span", { class: "actions end" }, button("PNG", pictures, { glyph: "image", hint: "Save the charts as PNG files" }),
      h("a", { class: "button", href: address("/api/jobs/csv", { runs: names(ids) }), download: "runs.csv" }, "CSV")));
  const element = h("section", { class: "card", "aria-label": "Curves" }, controls, picks, body);

  function pictures() {
    for (const [kind, c] of charts) if (c.element.isConnected) c.png(`${kind}.png`).catch(trouble);
  }

  async function load() {
    try {
      data = await get("/api/jobs/curves", { runs: names(ids), smooth: params.get("smooth") || 0 }, signal);
      draw();
    } catch (error) { trouble(error); }
  }

  // What is shown of a run: a plain name, as "accuracy" of the tests or "loss" of training.
  const label = (series) => series.name === "loss" ? "loss (train)" : series.name === "rate" ? "rate"
    : `${series.name.slice(series.name.indexOf(":") + 1)} (${series.name.startsWith("test:") ? "test" : "train"})`;

  function draw() {
    const hidden = new Set((params.get("hide") || "").split(",").filter(Boolean));
    const by = params.get("x") || "iteration";
    const all = [...new Set(data.runs.flatMap((r) => r.series.filter(worth).map((s) => s.name)))];
    fill(picks, all.length > 1 && [h("span", { class: "quiet" }, "Show"), all.map((name) => h("label", { class: "check" }, h("input", {
      type: "checkbox", checked: !hidden.has(name),
      onchange: (e) => {
        if (e.target.checked) hidden.delete(name); else hidden.add(name);
        set({ hide: [...hidden].join(",") });
        draw();
      },
    }), label({ name })))]);
    const parts = [];
    for (const [kind, title] of KINDS) {
      const found = [];
      const marks = [];
      data.runs.forEach((run, r) => {
        const own = run.series.filter((s) => s.kind === kind && worth(s) && !hidden.has(s.name));
        own.forEach((s, i) => {
          const many = data.runs.length > 1;
          found.push({
            label: many ? `${run.title} · ${label(s)}` : label(s), color: many ? color(r) : color(i),
            dash: many && i ? [[6, 4], [2, 3]][(i - 1) % 2] : null,
            x: xs(run, s, by), y: s.y, low: s.low, high: s.high,
          });
        });
        for (const m of run.marks) {
          const on = own.find((s) => s.name === m.series);
          if (m.kind === "best" && !on) continue;
          if (m.kind === "stop" && !own.length) continue;
          marks.push({ x: place_of(run, own[0], m.iteration, by), y: m.value, text: m.kind === "best" ? `best ${shortly(m)}` : m.text, color: "ink" });
        }
      });
      if (!found.length) continue;
      if (!charts.has(kind)) {
        const made = chart({ title, height: kind === "rate" ? 170 : 280 });
        made.against = h("span", { class: "quiet" });
        made.section = h("div", { class: "form" }, h("h2", {}, title, made.against), made.element);
        charts.set(kind, made);
      }
      const c = charts.get(kind);
      c.against.textContent = ` by ${by === "time" ? "time since the start" : by}`;
      parts.push(c.section);
      const isPart = kind === "output" && found.every((s) => s.y.every((v) => v === null || (v >= 0 && v <= 1)));
      queueMicrotask(() => c.show(found, marks, {
        log: params.get("log") === "1" && kind !== "output", xName: by, xText: AXES[by],
        yText: isPart ? (v) => percent(v) : number, yTick: isPart ? (v) => percent(v, 0) : null,
      }));
    }
    if (by === "epoch" && data.runs.some((r) => !r.per_epoch)) parts.unshift(unknown);
    if (!parts.length) parts.push(nothing);
    const same = parts.length === body.children.length && parts.every((p, i) => p === body.children[i]);
    if (!same) fill(body, parts); // else the reader's place in a chart would be lost
  }

  const shortly = (m) => (m.value >= 0 && m.value <= 1 ? percent(m.value) : number(m.value));
  const worth = (s) => s.name === "loss" || s.kind !== "loss" || s.name.startsWith("test:") || !s.name.startsWith("train:loss");

  function xs(run, s, by) {
    if (by === "time") return s.seconds;
    if (by === "epoch") return s.iterations.map((i) => i / (run.per_epoch || 1000));
    return s.iterations;
  }

  function place_of(run, s, iteration, by) {
    if (by === "iteration") return iteration;
    if (by === "epoch") return iteration / (run.per_epoch || 1000);
    const i = s.iterations.findIndex((x) => x >= iteration);
    return s.seconds[i < 0 ? s.seconds.length - 1 : i];
  }

  return { element, load };
}
