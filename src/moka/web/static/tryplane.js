// The features of a folder's images as points in a plane, colored by folder.

import { post } from "./api.js";
import { classOf, colorOf, dropzone, isImage } from "./models.js";
import { askAll, thumb } from "./tryfolder.js";
import { choice, failure, field, fill, h, progress, select } from "./ui.js";

const MOST = 2000;

export function showPlane(root, model, place) {
  let images = [];
  let vectors = "";
  const result = h("section", { class: "page" });
  const blob = select(model.blobs, place.params.get("blob") || model.feature_blob, (value) => { place.set({ blob: value }); if (images.length) take(images); });
  const how = () => place.params.get("how") === "tsne" ? "tsne" : "pca";
  fill(root, dropzone("Choose or drop a folder: in it a folder for each class", take, { folder: true }),
    h("div", { class: "actions" }, field("Blob", blob),
      choice("Plane", [["pca", "PCA"], ["tsne", "t-SNE"]], how(), (value) => { place.set({ how: value === "pca" ? "" : value }); if (vectors) put(); })), result);
  fill(result, h("p", { class: "quiet" }, "Images that the model finds alike lie close to each other."));

  async function take(all) {
    images = all.filter(isImage).slice(0, MOST);
    if (images.length < 2) { fill(result, failure(new Error("the folder holds fewer than two images."))); return; }
    const bar = h("div", { class: "card" });
    fill(result, bar);
    const tell = (done) => fill(bar, h("p", {}, `${done} of ${images.length} images`), progress(done / images.length, "Images that were asked"));
    tell(0);
    try {
      const answers = await askAll("/v1/features", { model: model.name, blob: blob.value, format: "base64" }, images, place.signal, tell);
      const kept = answers.map((a, i) => [images[i], a]).filter(([, a]) => a.features);
      images = kept.map(([file]) => file);
      vectors = joined(kept.map(([, a]) => a.features[blob.value].base64));
      await put();
    } catch (error) {
      if (error.name !== "AbortError") fill(result, failure(error));
    }
  }

  async function put() {
    try {
      const { points } = await post("/api/try/plane", { vectors, count: images.length, how: how() }, place.signal);
      fill(result, drawn(points, images));
    } catch (error) {
      if (error.name !== "AbortError") fill(result, failure(error));
    }
  }
}

// The base64 of all bytes behind each other.
function joined(texts) {
  const parts = texts.map((text) => atob(text));
  const whole = parts.join("");
  return btoa(whole);
}

function drawn(points, files) {
  const names = [...new Set(files.map(classOf))].sort();
  const [xs, ys] = [points.map((p) => p[0]), points.map((p) => p[1])];
  const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const scale = 960 / Math.max(x1 - x0, y1 - y0, 1e-9);
  const at = ([x, y]) => [500 + (x - (x0 + x1) / 2) * scale, 500 - (y - (y0 + y1) / 2) * scale];
  const tip = h("div", { class: "tip", hidden: true });
  const show = (i) => (event) => {
    const [x, y] = at(points[i]);
    tip.hidden = false;
    fill(tip, thumb(files[i]), h("span", {}, classOf(files[i]) || files[i].name));
    Object.assign(tip.style, { left: `${x / 10}%`, top: `${y / 10}%` });
    tip.classList.toggle("left", x > 600);
    if (event.type === "click") event.stopPropagation();
  };
  const hide = () => { tip.hidden = true; };
  const radius = Math.max(5, Math.min(12, 240 / Math.sqrt(points.length)));
  const dots = points.map((p, i) => {
    const [cx, cy] = at(p);
    const name = classOf(files[i]);
    return h("circle", { cx: cx.toFixed(1), cy: cy.toFixed(1), r: radius, fill: colorOf(names.indexOf(name)), tabindex: "0", role: "img", "aria-label": `${name} ${files[i].name}`, onpointerenter: show(i), onfocus: show(i), onclick: show(i), onpointerleave: hide, onblur: hide });
  });
  return [
    h("section", { class: "card" }, h("div", { class: "plane" }, h("svg", { viewBox: "0 0 1000 1000", role: "group", "aria-label": "Images as points" }, dots), tip),
      h("ul", { class: "legend" }, names.map((name, i) => h("li", {}, h("span", { class: "dot", style: { background: colorOf(i) } }), name || "(no folder)")))),
  ];
}
