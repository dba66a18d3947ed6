// Small parts of pages. All text goes in as text: nothing here reads HTML.

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "path", "g", "line", "rect", "circle", "text", "polyline", "title"]);

// An element: h("button", { class: "primary", onclick: act }, "Start").
export function h(tag, props = {}, ...children) {
  const made = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(props || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(made.style, value);
    else if (name === "value" && "value" in made) made.value = value;
    else if (name === "checked" || name === "indeterminate") made[name] = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  put(made, children);
  return made;
}

function put(parent, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    parent.append(child instanceof Node ? child : readable(String(child)));
  }
}

// A name whose file is not called in UTF-8 has a private character for each other byte: shown as \xe9.
function readable(text) {
  return text.replace(/[\u{10fe80}-\u{10feff}\udc80-\udcff]/gu, (c) => `\\x${(c.codePointAt(0) & 0xff).toString(16)}`);
}

// What is pressed stays until the press ends, since a button that is replaced in between gets no
// click; the newest content waits for that. What has the focus keeps it, if the new content still
// has it at the same place.
export function fill(parent, ...children) {
  if (pressed && pressed !== parent && parent.contains(pressed)) {
    held.set(parent, children);
    return parent;
  }
  const place = placeOf(document.activeElement, parent);
  const words = place && document.activeElement.textContent;
  parent.replaceChildren();
  put(parent, children);
  const found = place && place.reduce((node, index) => node && node.children[index], parent);
  if (found && found.textContent === words) found.focus({ preventScroll: true });
  return parent;
}

let pressed = null;
const held = new Map();
addEventListener("pointerdown", (event) => { pressed = event.target; }, true);
for (const name of ["pointerup", "pointercancel"]) {
  addEventListener(name, () => setTimeout(() => { // after the click
    pressed = null;
    const waiting = [...held];
    held.clear();
    for (const [parent, children] of waiting) fill(parent, ...children);
  }), true);
}

// The indices of children that lead from an element to one inside it; null if it is not inside.
function placeOf(inner, outer) {
  if (!inner || inner === outer || !outer.contains(inner)) return null;
  const place = [];
  for (let node = inner; node !== outer; node = node.parentElement) place.unshift([...node.parentElement.children].indexOf(node));
  return place;
}

const PATHS = {
  sun: "M12 7a5 5 0 1 0 0 10 5 5 0 0 0 0-10M12 2v2M12 20v2M4.9 4.9l1.4 1.4M17.7 17.7l1.4 1.4M2 12h2M20 12h2M4.9 19.1l1.4-1.4M17.7 6.3l1.4-1.4",
  plus: "M12 5v14M5 12h14",
  stop: "M7 7h10v10H7z",
  play: "M8 5l11 7-11 7z",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  trash: "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13",
  pencil: "M4 20l1-5L16 4l4 4L9 19z",
  chart: "M4 20V4M4 20h16M7 15l4-5 3 3 5-7",
  download: "M12 4v11M7 11l5 5 5-5M5 20h14",
  check: "M5 13l4 4L19 7",
  warning: "M12 4l9 16H3zM12 10v4M12 17v.5",
  star: "M12 4l2.4 5 5.6.7-4.1 3.9 1 5.4-4.9-2.7-4.9 2.7 1-5.4L4 9.7 9.6 9z",
  pause: "M9 5v14M15 5v14",
  close: "M6 6l12 12M18 6L6 18",
  back: "M14 6l-6 6 6 6",
  camera: "M4 8h4l2-3h4l2 3h4v11H4zM12 10a3 3 0 1 0 0 6 3 3 0 0 0 0-6",
  image: "M4 5h16v14H4zM4 16l5-5 4 4 2-2 5 5M15 9.5h.010",
  clock: "M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16M12 8v4l3 2",
};

// A path that may break behind its slashes, not within a name if it fits.
export function path(text) {
  return text.split(/(?<=\/)/).flatMap((part, i) => (i ? [h("wbr"), part] : [part]));
}

// The mark of a curve in a legend.
export function swatch(series) {
  return h("span", { class: series.dash ? "swatch dashed" : "swatch", style: { color: `var(--${series.color})` } });
}

export function icon(name) {
  return h("svg", { class: "glyph", viewBox: "0 0 24 24", "aria-hidden": "true" },
    h("path", { d: PATHS[name] || "" }));
}

// A button; with a label of its own for readers if it shows only a glyph.
export function button(label, act, { glyph, kind = "", hint, disabled, only = false } = {}) {
  return h("button", {
    type: "button", class: `${kind}${only ? " icon" : ""}`.trim() || null, onclick: act,
    disabled, title: hint || (only ? label : null), "aria-label": only ? label : null,
  }, glyph && icon(glyph), !only && h("span", {}, label));
}

export function link(label, href, { kind = "", glyph } = {}) {
  const more = glyph && !kind ? "with-glyph" : "";
  return h("a", { href, class: `${kind} ${more}`.trim() || null }, glyph && icon(glyph), h("span", {}, label));
}

// What a page shows where there is nothing: what is missing and what to do.
export function empty(title, text, ...actions) {
  return h("section", { class: "empty" }, h("h2", {}, title), h("p", {}, text),
    actions.length ? h("p", { class: "actions" }, actions) : null);
}

export function failure(error) {
  return h("p", { class: "error", role: "alert" }, icon("warning"), h("span", {}, error.message));
}

export function waiting(text = "Loading") {
  return h("p", { class: "waiting", role: "status" }, `${text} …`);
}

// A table. columns: { name, title, numeric, cell(row), sort(row), narrow: "hide" }.
// sort and onsort keep the order in the address: "name" or "-name".
export function table(columns, rows, { caption, sort, onsort, key, current } = {}) {
  const [by, down] = [String(sort || "").replace(/^-/, ""), String(sort || "").startsWith("-")];
  const chosen = columns.find((c) => c.name === by && c.sort);
  const sorted = chosen ? [...rows].sort((a, b) => compare(chosen.sort(a), chosen.sort(b), down)) : rows;
  const head = columns.map((c) => h("th", {
    scope: "col", class: classes(c),
    "aria-sort": c === chosen ? (down ? "descending" : "ascending") : null,
  }, c.sort && onsort
    ? h("button", { type: "button", class: "sort", onclick: () => onsort(c.name === by && !down ? `-${c.name}` : c.name) },
      c.title, h("span", { "aria-hidden": "true", class: "arrow" }, c === chosen ? (down ? "↓" : "↑") : ""))
    : c.title));
  const body = sorted.map((row) => h("tr", { "data-key": key ? key(row) : null, class: current && current(row) ? "current" : null },
    columns.map((c, i) => h(i === 0 && c.head ? "th" : "td", { scope: i === 0 && c.head ? "row" : null, class: classes(c), "data-title": typeof c.title === "string" ? c.title : null }, c.cell(row)))));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption || "Table" },
    h("table", {}, caption && h("caption", { class: "quiet" }, caption),
      h("thead", {}, h("tr", {}, head)), h("tbody", {}, body)));
}

function classes(column) {
  return [column.numeric && "numeric", column.narrow === "hide" && "wide-only", column.kind]
    .filter(Boolean).join(" ") || null;
}

function compare(a, b, down) {
  const missing = (v) => v === null || v === undefined || (typeof v === "number" && Number.isNaN(v));
  if (missing(a) || missing(b)) return missing(a) - missing(b);
  const order = typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b;
  return down ? -order : order;
}

// A labelled field; the note stands below it, or says what is wrong.
let fields = 0;
export function field(label, input, { note = "", unit = "" } = {}) {
  if (!input.id) input.id = `field-${++fields}`;
  const noteId = `${input.id}-note`;
  const said = h("p", { class: "note", id: noteId });
  input.setAttribute("aria-describedby", noteId);
  const box = h("div", { class: "field" }, h("label", { for: input.id }, label), input, said);
  box.note = (text, wrong = false) => {
    said.textContent = wrong ? text : [unit, text].filter(Boolean).join(" · ");
    said.classList.toggle("wrong", wrong);
    input.toggleAttribute("aria-invalid", wrong);
  };
  box.note(note);
  return box;
}

export function select(options, value, onchange) {
  return h("select", { onchange: (e) => onchange && onchange(e.target.value) },
    options.map((o) => {
      const [key, label] = Array.isArray(o) ? o : [o, o];
      return h("option", { value: key, selected: String(key) === String(value) }, label);
    }));
}

// A few choices side by side, of which one is taken.
export function choice(label, options, value, onchange) {
  const name = `choice-${++fields}`;
  return h("fieldset", { class: "choice" }, h("legend", { class: "quiet" }, label),
    options.map(([key, text]) => h("label", {},
      h("input", { type: "radio", name, value: key, checked: key === value, onchange: () => onchange(key) }),
      h("span", {}, text))));
}

export function progress(part, label) {
  const known = part !== null && part !== undefined;
  return h("progress", { max: "1", value: known ? part : undefined, "aria-label": label });
}

// A word below the page for some seconds, with a way back if there is one.
export function toast(text, { undo, wrong = false } = {}) {
  const box = document.getElementById("toasts");
  const note = h("div", { class: wrong ? "toast wrong" : "toast" }, h("span", {}, text));
  const gone = () => note.remove();
  if (undo) note.append(button("Undo", () => { gone(); undo(); }, { kind: "plain" }));
  note.append(button("Close", gone, { glyph: "close", only: true, kind: "plain" }));
  box.append(note);
  setTimeout(gone, undo ? 12000 : wrong ? 10000 : 5000);
}

export const trouble = (error) => { if (error.name !== "AbortError") toast(error.message, { wrong: true }); };

// A dialog that asks for a text; resolves to null if it is closed.
export function ask(title, label, value = "", action = "Save") {
  return new Promise((resolve) => {
    const input = h("input", { type: "text", value, required: true });
    const dialog = h("dialog", { "aria-label": title, onclose: () => { dialog.remove(); resolve(dialog.returnValue === "yes" ? input.value.trim() : null); } },
      h("form", { method: "dialog" }, h("h2", {}, title), field(label, input),
        h("p", { class: "actions" }, h("button", { value: "yes", class: "primary" }, action),
          h("button", { value: "no", formnovalidate: true }, "Cancel"))));
    document.body.append(dialog);
    dialog.showModal();
    input.select();
  });
}

// A text as it was written, such as a log.
export function listing(label, text = "") {
  return h("pre", { class: "code", tabindex: "0", role: "region", "aria-label": label }, text);
}

export function copyLine(text) {
  return h("div", { class: "shell" }, h("code", { tabindex: "0" }, text),
    button("Copy", async () => {
      try { await navigator.clipboard.writeText(text); toast("Copied."); } catch { toast("Select the line and copy it.", { wrong: true }); }
    }, { glyph: "copy", only: true, kind: "plain" }));
}

export function save(name, blob) {
  const url = URL.createObjectURL(blob);
  const a = h("a", { href: url, download: name });
  document.body.append(a);
  a.click();
  a.remove();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

// A function that is called once typing has paused.
export function paused(work, ms = 250) {
  let timer = 0;
  return (...values) => { clearTimeout(timer); timer = setTimeout(() => work(...values), ms); };
}
