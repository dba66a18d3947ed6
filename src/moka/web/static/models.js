// What the pages Try and Nets share: image pickers, bars, labels, colors.

import { address } from "./api.js";
import { count, isKnown, number } from "./format.js";
import { h, icon } from "./ui.js";

const TYPES = "image/jpeg,image/png,image/bmp,image/gif,image/webp,.pgm,.ppm";

// A place for images: click, drop, paste. pick(files) gets File objects.
export function dropzone(text, pick, { folder = false, signal } = {}) {
  const input = h("input", { type: "file", accept: folder ? null : TYPES, multiple: folder, webkitdirectory: folder, class: "sr", "aria-label": text });
  input.addEventListener("change", () => { if (input.files.length) pick([...input.files]); input.value = ""; });
  const zone = h("label", { class: "drop" }, input, icon("image"), h("span", {}, text));
  const over = (on) => (event) => { event.preventDefault(); zone.classList.toggle("over", on); };
  zone.addEventListener("dragover", over(true));
  zone.addEventListener("dragleave", over(false));
  zone.addEventListener("drop", async (event) => {
    over(false)(event);
    const files = folder ? await dropped(event.dataTransfer) : [...event.dataTransfer.files];
    if (files.length) pick(files);
  });
  if (!folder) {
    addEventListener("paste", (event) => {
      const files = [...(event.clipboardData?.files || [])];
      if (files.length) { event.preventDefault(); pick(files); }
    }, { signal });
  }
  return zone;
}

// The files of folders that were dropped, each with its path in `path`.
async function dropped(transfer) {
  const found = [];
  async function walk(entry, path) {
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => { entry.file(resolve, reject); });
      file.path = path + entry.name;
      found.push(file);
    } else if (entry.isDirectory) {
      const reader = entry.createReader();
      for (;;) {
        const part = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); });
        if (!part.length) break;
        for (const each of part) await walk(each, `${path}${entry.name}/`);
      }
    }
  }
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  for (const entry of entries) await walk(entry, "");
  return found;
}

// The folder that an image lies in, which names its class.
export function classOf(file) {
  const parts = (file.path || file.webkitRelativePath || file.name).split("/");
  return parts.length > 1 ? parts[parts.length - 2] : "";
}

export function isImage(file) {
  return /\.(jpe?g|png|bmp|gif|webp|p[gp]m)$/i.test(file.name);
}

// A label without WordNet's number, and its first name alone.
export function shortLabel(label) {
  return label.replace(/^n\d{8}\s+/, "").split(",")[0];
}

export function bars(classes) {
  const most = Math.max(...classes.map((c) => c.score), 1e-12);
  const whole = classes.every((c) => c.score >= 0 && c.score <= 1.0001);
  return h("ol", { class: "bars" }, classes.map((c) => h("li", {},
    h("span", { class: "label", title: c.label }, shortLabel(c.label)),
    h("span", { class: "track" }, h("span", { class: "filled", style: { width: `${Math.max(0, 100 * c.score / (whole ? 1 : most))}%` } })),
    h("span", { class: "numeric" }, whole ? `${(100 * c.score).toFixed(1)} %` : Number(c.score.toPrecision(4))))));
}

// The line with which a shell sends an image to a route.
export function curl(path, values = {}) {
  const url = location.origin + address(path, values).replaceAll("'", "%27");
  return `curl --data-binary @image.jpg -H 'Content-Type: image/jpeg' '${url}'`;
}

// Colors by number, far from each other: the golden angle around the circle.
export function colorOf(number, light = 52) {
  return `hsl(${(number * 137.5) % 360} 68% ${light}%)`;
}

// Multiply-adds: all digits of few, millions or billions of many.
export function adds(value) {
  if (!isKnown(value) || value < 1e7) return count(value);
  return value < 1e9 ? `${number(value / 1e6)} million` : `${number(value / 1e9)} billion`;
}
