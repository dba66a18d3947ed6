// A line chart on a canvas: bands, marks, a cursor for pointer and keyboard, zoom by dragging.
//
//   const c = chart({ title, xName, xText, yText, log, height });
//   root.append(c.element);
//   c.show(series, marks);   // series: { label, color, x, y, low, high, dash }
//   c.png("loss.png");

import { isKnown, number } from "./format.js";
import { fill, h, save, swatch } from "./ui.js";

const PAD = { top: 10, right: 14, bottom: 30 };
const MONO = "12px system-ui, sans-serif";

export function color(i) {
  return `c${i % 8}`;
}

function token(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

export function chart({ title, xName = "iteration", xText = number, yText = number, yTick = null, height = 260, legend = true } = {}) {
  const canvas = h("canvas", { role: "img", tabindex: "0", "aria-label": title });
  const tip = h("div", { class: "tip", hidden: true });
  const spoken = h("div", { class: "sr", role: "status", "aria-live": "polite" });
  const list = h("ul", { class: "legend" });
  const element = h("figure", { class: "chart" }, h("div", { class: "chart" }, canvas, tip), legend && list, spoken);
  const state = { series: [], marks: [], log: false, xName, xText, yText, yTick, hidden: new Set(), zoom: null, cursor: null, drag: null, box: null };

  const shown = () => state.series.filter((s) => !state.hidden.has(s.label));

  function show(series, marks = [], options = {}) {
    Object.assign(state, options, { series, marks });
    canvas.setAttribute("aria-label", described());
    if (legend) {
      fill(list, series.map((s) => h("li", {}, h("button", {
        type: "button", "aria-pressed": String(!state.hidden.has(s.label)),
        title: "Show or hide", onclick: (e) => {
          if (!state.hidden.delete(s.label)) state.hidden.add(s.label);
          e.currentTarget.setAttribute("aria-pressed", String(!state.hidden.has(s.label)));
          draw();
        },
      }, swatch(s), s.label))));
      list.hidden = series.length < 2;
    }
    draw();
  }

  function described() {
    const parts = state.series.map((s) => {
      const last = [...s.y].reverse().find(isKnown);
      return `${s.label}: last ${state.yText(last)}`;
    });
    return `${title} by ${state.xName}. ${parts.join("; ") || "No numbers yet."} Arrow keys move along the curve, plus and minus enlarge it and bring it back.`;
  }

  function ranges() {
    let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
    for (const s of shown()) {
      for (let i = 0; i < s.x.length; i++) {
        const x = s.x[i];
        if (!isKnown(x)) continue;
        if (state.zoom && (x < state.zoom[0] || x > state.zoom[1])) continue;
        x0 = Math.min(x0, x); x1 = Math.max(x1, x);
        for (const y of [s.y[i], s.low && s.low[i], s.high && s.high[i]]) {
          if (!isKnown(y) || (state.log && y <= 0)) continue;
          y0 = Math.min(y0, y); y1 = Math.max(y1, y);
        }
      }
    }
    if (x0 > x1) [x0, x1] = [0, 1];
    if (state.zoom) [x0, x1] = state.zoom;
    if (x0 === x1) x1 = x0 + 1;
    if (y0 > y1) [y0, y1] = state.log ? [0.1, 1] : [0, 1];
    if (state.log) {
      if (y1 / y0 < 1.2) { y0 /= 1.2; y1 *= 1.2; }
    } else {
      if (y1 - y0 < 1e-9 * Math.abs(y1)) y0 = y1; // what differs is rounding
      const span = y1 - y0 || Math.abs(y1) || 1;
      if (y0 >= 0 && y0 < span * 0.3) y0 = 0; else y0 -= span * 0.06;
      y1 += span * 0.06;
    }
    return [x0, x1, y0, y1];
  }

  function draw() {
    const width = canvas.clientWidth;
    if (!width) return;
    const scale = devicePixelRatio || 1;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    canvas.style.height = `${height}px`;
    paint(canvas.getContext("2d"), width, scale);
  }

  function paint(g, width, scale) {
    g.setTransform(scale, 0, 0, scale, 0, 0);
    g.clearRect(0, 0, width, height);
    g.font = MONO;
    const [x0, x1, y0, y1] = ranges();
    const ys = state.log ? logTicks(y0, y1) : ticks(y0, y1, Math.max(2, Math.floor(height / 52)));
    const tick = state.yTick || state.yText;
    const left = Math.max(44, ...ys.map((y) => g.measureText(tick(y)).width)) + 12;
    const right = width - PAD.right, bottom = height - PAD.bottom;
    const fy = state.log ? Math.log : (v) => v;
    const px = (x) => left + ((x - x0) / (x1 - x0)) * (right - left);
    const py = (y) => bottom - ((fy(y) - fy(y0)) / (fy(y1) - fy(y0))) * (bottom - PAD.top);
    state.box = { left, right, bottom, x0, x1, px, py };
    const [line, ink] = [token("line"), token("ink-2")];

    g.lineWidth = 1; g.strokeStyle = line; g.fillStyle = ink;
    g.textBaseline = "middle"; g.textAlign = "right";
    for (const y of ys) {
      const at = Math.round(py(y)) + 0.5;
      g.beginPath(); g.moveTo(left, at); g.lineTo(right, at); g.stroke();
      g.fillText(tick(y), left - 8, at);
    }
    g.textAlign = "center"; g.textBaseline = "top";
    const xs = ticks(x0, x1, Math.max(2, Math.floor((right - left) / 64)));
    for (const x of xs) {
      const text = state.xText(x), half = g.measureText(text).width / 2;
      g.fillText(text, Math.min(Math.max(px(x), left + half - 6), right - half + PAD.right), bottom + 9);
    }
    g.save();
    g.beginPath(); g.rect(left - 4, 0, right - left + 14, bottom + 4); g.clip();
    for (const s of shown()) band(g, s, px, py);
    for (const s of shown()) curve(g, s, px, py);
    for (const m of state.marks) mark(g, m, px, py, bottom);
    if (state.drag) {
      g.fillStyle = token("accent"); g.globalAlpha = 0.12;
      g.fillRect(Math.min(...state.drag), PAD.top, Math.abs(state.drag[1] - state.drag[0]), bottom - PAD.top);
      g.globalAlpha = 1;
    }
    if (state.cursor !== null) {
      g.strokeStyle = token("line-strong"); g.lineWidth = 1;
      const at = Math.round(px(state.cursor)) + 0.5;
      g.beginPath(); g.moveTo(at, PAD.top); g.lineTo(at, bottom); g.stroke();
      for (const s of shown()) {
        const i = nearest(s.x, state.cursor);
        if (i < 0 || !ok(s.y[i])) continue;
        g.fillStyle = token(s.color);
        g.beginPath(); g.arc(px(s.x[i]), py(s.y[i]), 3.5, 0, 7); g.fill();
      }
    }
    g.restore();
  }

  const ok = (y) => isKnown(y) && (!state.log || y > 0);

  function band(g, s, px, py) {
    if (!s.low || !s.low.length) return;
    g.fillStyle = g.strokeStyle = token(s.color);
    g.globalAlpha = 0.16;
    const isLine = s.low === s.high || s.low.every((v, i) => v === s.high[i]);
    g.beginPath();
    if (isLine) {
      g.globalAlpha = 0.3; g.lineWidth = 1;
      path(g, s.x, s.low, px, py);
      g.stroke();
    } else {
      const floor = Math.min(...s.low.filter(ok));
      const keep = s.x.map((_, i) => i).filter((i) => isKnown(s.x[i]) && ok(s.high[i]));
      for (const i of keep) g.lineTo(px(s.x[i]), py(s.high[i]));
      for (const i of keep.reverse()) g.lineTo(px(s.x[i]), py(ok(s.low[i]) ? s.low[i] : floor));
      g.fill();
    }
    g.globalAlpha = 1;
  }

  function curve(g, s, px, py) {
    g.strokeStyle = g.fillStyle = token(s.color);
    g.lineWidth = 2; g.lineJoin = "round";
    g.setLineDash(s.dash || []);
    g.beginPath();
    path(g, s.x, s.y, px, py);
    g.stroke();
    g.setLineDash([]);
    if (s.x.length < 30 && !s.bare) {
      for (let i = 0; i < s.x.length; i++) {
        if (!ok(s.y[i]) || !isKnown(s.x[i])) continue;
        g.beginPath(); g.arc(px(s.x[i]), py(s.y[i]), 2.5, 0, 7); g.fill();
      }
    }
  }

  function path(g, xs, ys, px, py) {
    let begun = false;
    for (let i = 0; i < xs.length; i++) {
      if (!isKnown(xs[i]) || !ok(ys[i])) { begun = false; continue; }
      if (begun) g.lineTo(px(xs[i]), py(ys[i])); else g.moveTo(px(xs[i]), py(ys[i]));
      begun = true;
    }
  }

  function mark(g, m, px, py, bottom) {
    const x = px(m.x);
    g.strokeStyle = g.fillStyle = token(m.color || "ink-2");
    if (isKnown(m.y) && ok(m.y)) {
      g.lineWidth = 2;
      g.beginPath(); g.arc(x, py(m.y), 6, 0, 7); g.stroke();
    } else {
      g.lineWidth = 1; g.setLineDash([4, 4]);
      g.beginPath(); g.moveTo(x, PAD.top); g.lineTo(x, bottom); g.stroke();
      g.setLineDash([]);
    }
    g.textBaseline = "bottom";
    const side = x > canvas.clientWidth / 2;
    g.textAlign = side ? "right" : "left";
    const y = isKnown(m.y) && ok(m.y) ? py(m.y) - 8 : PAD.top + 14;
    const at = [x + (side ? -9 : 9), Math.max(y, PAD.top + 12)];
    g.lineWidth = 4; g.lineJoin = "round"; g.strokeStyle = token("surface"); // no line of the grid crosses the words
    g.strokeText(m.text, ...at);
    g.fillText(m.text, ...at);
  }

  function tell(x, speak) {
    state.cursor = x;
    draw();
    const rows = shown().map((s) => ({ s, i: nearest(s.x, x) })).filter((r) => r.i >= 0);
    if (!rows.length || x === null) { tip.hidden = true; return; }
    const near = rows.reduce((a, b) => (Math.abs(a.s.x[a.i] - x) <= Math.abs(b.s.x[b.i] - x) ? a : b));
    const head = `${state.xName} ${state.xText(near.s.x[near.i])}`;
    fill(tip, h("div", { class: "quiet" }, head), rows.slice(0, 14).map((r) => h("div", {},
      swatch(r.s), r.s.label,
      h("b", {}, state.yText(r.s.y[r.i])))));
    tip.hidden = false;
    const { left, right, px } = state.box, at = px(x), wide = tip.offsetWidth;
    tip.style.left = `${Math.max(left, at + 14 + wide > right ? at - wide - 14 : at + 14)}px`;
    tip.style.top = `${PAD.top + 4}px`;
    if (speak) spoken.textContent = `${head}: ${rows.map((r) => `${r.s.label} ${state.yText(r.s.y[r.i])}`).join(", ")}`;
  }

  const xAt = (event) => {
    const { left, right, x0, x1 } = state.box;
    const at = Math.min(Math.max(event.offsetX, left), right);
    return x0 + ((at - left) / (right - left)) * (x1 - x0);
  };
  canvas.addEventListener("pointermove", (e) => {
    if (!state.box) return;
    if (state.drag) state.drag[1] = e.offsetX;
    tell(xAt(e), false);
  });
  canvas.addEventListener("pointerleave", () => { state.drag = null; tip.hidden = true; state.cursor = null; draw(); });
  canvas.addEventListener("pointerdown", (e) => { if (e.pointerType === "mouse" && state.box) state.drag = [e.offsetX, e.offsetX]; });
  canvas.addEventListener("pointerup", (e) => {
    if (state.drag && Math.abs(state.drag[1] - state.drag[0]) > 8) {
      const { left, right, x0, x1 } = state.box;
      const back = (at) => x0 + ((Math.min(Math.max(at, left), right) - left) / (right - left)) * (x1 - x0);
      state.zoom = state.drag.map(back).sort((a, b) => a - b);
    }
    state.drag = null;
    draw();
    e.preventDefault();
  });
  canvas.addEventListener("dblclick", () => { state.zoom = null; draw(); });
  canvas.addEventListener("keydown", (e) => {
    const first = shown()[0];
    if (e.key === "Escape") { state.zoom = null; tell(null, false); return; }
    if (state.box && ["+", "=", "-"].includes(e.key)) {
      const { x0, x1 } = state.box, middle = state.cursor ?? (x0 + x1) / 2;
      state.zoom = e.key === "-" ? null : [middle - (x1 - x0) / 4, middle + (x1 - x0) / 4];
      e.preventDefault();
      draw();
      return;
    }
    if (!first || !["ArrowLeft", "ArrowRight", "Home", "End"].includes(e.key)) return;
    e.preventDefault();
    const last = first.x.length - 1;
    const step = Math.max(1, Math.round(last / 60));
    const i = state.cursor === null ? 0 : nearest(first.x, state.cursor);
    const to = { ArrowLeft: i - step, ArrowRight: i + step, Home: 0, End: last }[e.key];
    tell(first.x[Math.min(last, Math.max(0, to))], true);
  });
  canvas.addEventListener("blur", () => { tip.hidden = true; state.cursor = null; draw(); });
  new ResizeObserver(draw).observe(canvas);
  addEventListener("themechange", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

  async function png(name) {
    const copy = document.createElement("canvas");
    const width = canvas.clientWidth, scale = 2;
    const rows = legend && state.series.length > 1 ? shown() : [];
    copy.width = width * scale;
    copy.height = (height + 28 + rows.length * 18) * scale;
    const g = copy.getContext("2d");
    const g2 = document.createElement("canvas");
    g2.width = width * scale; g2.height = height * scale;
    paint(g2.getContext("2d"), width, scale);
    g.fillStyle = token("surface"); g.fillRect(0, 0, copy.width, copy.height);
    g.setTransform(scale, 0, 0, scale, 0, 0);
    g.font = "600 14px system-ui, sans-serif"; g.fillStyle = token("ink"); g.textBaseline = "top";
    g.fillText(`${title} by ${state.xName}`, 8, 8);
    g.drawImage(g2, 0, 28, width, height);
    g.font = MONO;
    rows.forEach((s, i) => {
      g.fillStyle = token(s.color);
      for (const [from, wide] of s.dash ? [[12, 5], [21, 5]] : [[12, 14]]) g.fillRect(from, height + 28 + i * 18 + 7, wide, 3);
      g.fillStyle = token("ink"); g.fillText(s.label, 34, height + 28 + i * 18);
    });
    draw();
    save(name, await new Promise((done) => copy.toBlob(done, "image/png")));
  }

  return { element, show, png, draw };
}

// The index of the place in a rising list that is nearest; -1 for an empty one.
function nearest(xs, x) {
  let best = -1, least = Infinity;
  for (let i = 0; i < xs.length; i++) {
    if (!isKnown(xs[i])) continue;
    const far = Math.abs(xs[i] - x);
    if (far < least) { least = far; best = i; }
  }
  return best;
}

function ticks(from, to, most) {
  const rough = (to - from) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((k) => k * power).find((s) => (to - from) / s <= most) || power * 10;
  const found = [];
  for (let k = Math.ceil(from / step - 1e-9); k * step <= to + step * 1e-9; k++) found.push(Number((k * step).toPrecision(12)));
  return found;
}

function logTicks(from, to) {
  const found = [];
  const decades = Math.log10(to / from);
  const steps = decades > 3 ? [1] : decades > 1.2 ? [1, 3] : [1, 1.5, 2, 3, 5, 7];
  for (let p = Math.floor(Math.log10(from)); p <= Math.ceil(Math.log10(to)); p++) {
    for (const k of steps) {
      const v = Number((k * 10 ** p).toPrecision(6));
      if (v >= from && v <= to) found.push(v);
    }
  }
  const every = Math.ceil(found.length / 8);
  return found.filter((_, i) => i % every === 0);
}
