// A net as a graph: drawn with SVG, moved by dragging, zoomed by wheel, fingers, keys or buttons.

import { post } from "./api.js";
import { button, failure, fill, h } from "./ui.js";

const LEAST_SCALE = 0.8; // at which a whole net is shown; below it only its upper part

export async function showGraph(root, net, place, goTo, found) {
  const open = new Set((place.params.get("open") || "").split(",").filter(Boolean));
  let fold = place.params.get("fold") !== "no";
  const box = h("div", { class: "graph", tabindex: "0", role: "application", "aria-label": "The net as a graph. Arrow keys move it, plus and minus zoom." });
  const search = h("input", { type: "search", placeholder: "Search a layer", "aria-label": "Search a layer", autocomplete: "off" });
  const hits = h("span", { class: "quiet", role: "status" });
  const folding = h("label", { class: "check" }, h("input", { type: "checkbox", checked: fold, onchange: (e) => { fold = e.target.checked; place.set({ fold: fold ? "" : "no" }); draw(); } }), "Fold blocks");
  fill(root, h("div", { class: "head" }, h("h2", {}, "Graph"), h("div", { class: "actions" }, folding, h("span", { class: "searching" }, search, hits),
    button("Smaller", () => zoom(1 / 1.4), { kind: "plain" }), button("Larger", () => zoom(1.4), { kind: "plain" }), button("All", fit, { kind: "plain" }))), box);
  let view = { x: 0, y: 0, scale: 1 };
  let drawn = null;
  let layer = null;
  const boxes = new Map();

  async function draw() {
    try {
      drawn = await post("/api/nets/graph", { ...net, fold, open: [...open] }, place.signal);
    } catch (error) {
      if (error.name !== "AbortError") fill(box, failure(error));
      return;
    }
    folding.hidden = !drawn.can_fold;
    boxes.clear();
    layer = h("g");
    const edges = drawn.edges.map((e) => h("path", { d: curve(e.points), class: "edge" }, h("title", {}, e.blobs.join(", "))));
    const nodes = drawn.boxes.map((b) => node(b));
    layer.append(...edges, ...nodes);
    fill(box, h("svg", { width: "100%", height: "100%", "aria-hidden": "false" },
      layer));
    fit();
    find();
  }

  function node(b) {
    const x = b.x - b.width / 2;
    const y = b.y - b.height / 2;
    const act = () => {
      if (b.block) { open.add(b.block); place.set({ open: [...open].join(",") }); draw(); return; }
      const line = found.layers.find((l) => l.name === b.layers[0])?.line;
      if (line) goTo(line);
    };
    const g = h("g", { class: `node${b.block ? " block" : ""}`, tabindex: "0", role: "button", "aria-label": `${b.lines.join(", ")}${b.block ? ", folded: open it" : ""}`, onclick: (e) => { if (!moved) act(); e.stopPropagation(); }, onkeydown: (e) => { if (e.key === "Enter" || e.key === " ") { e.preventDefault(); act(); } } },
      b.block && h("rect", { x: x + 4, y: y + 4, width: b.width, height: b.height, rx: 6, class: "behind" }),
      h("rect", { x, y, width: b.width, height: b.height, rx: 6, class: "face" }),
      h("rect", { x, y, width: 5, height: b.height, rx: 2, fill: b.color }),
      b.lines.map((line, i) => h("text", { x: b.x + 2, y: y + 20 + 17 * i, "text-anchor": "middle", class: i ? "small" : "name" }, line)),
      b.repeats > 1 && h("text", { x: x + b.width - 4, y: y - 4, "text-anchor": "end", class: "small" }, `one of ${b.repeats} alike`));
    if (!b.block && open.has(b.inside)) {
      g.append(h("title", {}, `Block ${b.inside}: press Escape to fold it`));
      g.addEventListener("keydown", (e) => { if (e.key === "Escape") { open.delete(b.inside); place.set({ open: [...open].join(",") }); draw(); } });
      g.addEventListener("dblclick", () => { open.delete(b.inside); place.set({ open: [...open].join(",") }); draw(); });
    }
    boxes.set(b.key, { b, g });
    return g;
  }

  function put() { if (layer) layer.setAttribute("transform", `translate(${view.x} ${view.y}) scale(${view.scale})`); }
  function fit() {
    const { clientWidth: w, clientHeight: hgt } = box;
    const scale = Math.min(1, (w - 24) / drawn.width, Math.max((hgt - 24) / drawn.height, Math.min(LEAST_SCALE, (w - 24) / drawn.width)));
    view = { scale, x: (w - drawn.width * scale) / 2, y: 12 };
    put();
  }
  function zoom(factor, at = [box.clientWidth / 2, box.clientHeight / 2]) {
    const scale = Math.min(3, Math.max(0.03, view.scale * factor));
    const change = scale / view.scale;
    view = { scale, x: at[0] - (at[0] - view.x) * change, y: at[1] - (at[1] - view.y) * change };
    put();
  }
  function find() {
    const text = search.value.trim().toLowerCase();
    let first = null;
    let countOf = 0;
    for (const { b, g } of boxes.values()) {
      const hit = text && (b.layers.some((n) => n.toLowerCase().includes(text)) || b.lines.some((l) => l.toLowerCase().includes(text)));
      g.classList.toggle("hit", Boolean(hit));
      if (hit) { countOf++; first ||= b; }
    }
    hits.textContent = text ? (countOf ? `${countOf} found` : "nothing found") : "";
    if (first) { view.scale = Math.max(view.scale, 0.8); view.x = box.clientWidth / 2 - first.x * view.scale; view.y = box.clientHeight / 2 - first.y * view.scale; put(); }
  }
  search.addEventListener("input", find);

  let moved = false;
  const fingers = new Map();
  box.addEventListener("pointerdown", (e) => { fingers.set(e.pointerId, [e.clientX, e.clientY]); moved = false; });
  box.addEventListener("pointermove", (e) => {
    const before = fingers.get(e.pointerId);
    if (!before) return;
    const [dx, dy] = [e.clientX - before[0], e.clientY - before[1]];
    if (!moved && Math.hypot(dx, dy) < 4) return;
    if (!moved) box.setPointerCapture(e.pointerId);
    moved = true;
    if (fingers.size === 2) {
      const other = [...fingers].find(([id]) => id !== e.pointerId)[1];
      const rect = box.getBoundingClientRect();
      const [was, is] = [Math.hypot(before[0] - other[0], before[1] - other[1]), Math.hypot(e.clientX - other[0], e.clientY - other[1])];
      zoom(is / Math.max(was, 1), [(e.clientX + other[0]) / 2 - rect.left, (e.clientY + other[1]) / 2 - rect.top]);
    } else {
      view.x += dx;
      view.y += dy;
      put();
    }
    fingers.set(e.pointerId, [e.clientX, e.clientY]);
  });
  for (const end of ["pointerup", "pointercancel"]) box.addEventListener(end, (e) => fingers.delete(e.pointerId));
  box.addEventListener("wheel", (e) => {
    if (!e.ctrlKey && !e.metaKey && document.activeElement !== box) return; // the page scrolls
    e.preventDefault();
    const rect = box.getBoundingClientRect();
    zoom(Math.exp(-e.deltaY / 400), [e.clientX - rect.left, e.clientY - rect.top]);
  }, { passive: false });
  box.addEventListener("keydown", (e) => {
    const step = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }[e.key];
    if (step) { view.x += step[0]; view.y += step[1]; put(); e.preventDefault(); }
    if (e.key === "+" || e.key === "=") zoom(1.3);
    if (e.key === "-") zoom(1 / 1.3);
  });
  await draw();
}

// A smooth way through points, from above to below.
function curve(points) {
  let d = `M${points[0][0]} ${points[0][1]}`;
  for (let i = 1; i < points.length; i++) {
    const [[x0, y0], [x1, y1]] = [points[i - 1], points[i]];
    const middle = (y0 + y1) / 2;
    d += `C${x0} ${middle} ${x1} ${middle} ${x1} ${y1}`;
  }
  return d;
}
