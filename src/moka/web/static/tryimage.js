// One image: classes with bars and maps, boxes with a threshold, segments.

import { about, post, upload } from "./api.js";
import { bars, colorOf, curl, dropzone, shortLabel } from "./models.js";
import { button, choice, copyLine, failure, fill, h, trouble, waiting } from "./ui.js";

const ROUTES = { classes: "/v1/classify", boxes: "/v1/detect", map: "/v1/segment" };

export function showImage(root, model, place) {
  const pane = h("section", { class: "card stage" });
  const side = h("section", { class: "card", "aria-live": "polite", "aria-label": "Answer" });
  const zone = dropzone("Choose, drop or paste an image", (files) => take(files[0]), { signal: place.signal });
  const packing = h("div", { class: "form" });
  const camera = button("Camera", openCamera, { glyph: "camera" });
  fill(root, h("div", { class: "two" },
    h("div", { class: "page" }, h("div", { class: "actions grow" }, zone, camera), pane), side),
  h("section", { class: "form" }, h("h2", {}, "From a program"), copyLine(curl(ROUTES[model.kind], { model: model.name })),
    h("p", { class: "quiet" }, "This server answers programs too, as long as it runs: ", h("a", { href: "/docs" }, "all routes"), "."), packing));
  about().then(({ parts }) => parts.some((p) => p.path === "jobs") && fill(packing, h("p", { class: "actions" }, button("Pack for caffe serve", pack, { hint: "Write the net for use, its weights and labels into a folder" }))));
  fill(pane, h("p", { class: "quiet" }, `${model.name} takes images of ${model.input[2]} x ${model.input[1]} pixels; others are resized.`));
  fill(side, h("h2", {}, "Answer"), h("p", { class: "quiet" }, "Give an image, and the answer stands here."));
  let stop = null;
  place.signal.addEventListener("abort", () => stop && stop());

  async function pack() {
    try {
      const { folder, shell } = await post("/api/try/pack", { model: model.name }, place.signal);
      fill(packing, h("p", {}, `Packed into ${folder}. This line serves it without the pages:`), copyLine(shell));
    } catch (error) { trouble(error); }
  }

  async function take(file) {
    if (stop) stop();
    fill(side, h("h2", {}, "Answer"), waiting("Asking the model"));
    const canvas = h("canvas", { class: "picture", role: "img", "aria-label": file.name || "The image" });
    const form = new FormData();
    form.set("image", file, file.name || "image.png");
    form.set("model", model.name);
    form.set("top", 5);
    form.set("upright", "true");
    try {
      const picture = await createImageBitmap(file).catch(() => null);
      fill(pane, canvas);
      draw(canvas, picture);
      const answer = await upload(ROUTES[model.kind], form, place.signal);
      const shown = { classes: showClasses, boxes: showBoxes, map: showSegments }[model.kind];
      shown(answer.images[0], { canvas, picture, file });
    } catch (error) {
      if (error.name !== "AbortError") fill(side, h("h2", {}, "Answer"), failure(error));
    }
  }

  function showClasses(answer, { canvas, picture, file }) {
    const best = answer.classes[0];
    const said = h("p", { class: "quiet" }, "What the answer depends on can be shown over the image.");
    let asked = 0;
    const pick = choice("Map", [["", "None"], ["occlusion", "Occlusion"], ["gradient", "Gradient"]], "", async (how) => {
      const mine = ++asked;
      draw(canvas, picture);
      if (!how) { fill(said, "What the answer depends on can be shown over the image."); return; }
      fill(said, "Computing …");
      const form = new FormData();
      for (const [name, value] of Object.entries({ model: model.name, how, class: best.index })) form.set(name, value);
      form.set("image", file, file.name || "image.png");
      try {
        const found = await upload("/api/try/explain", form, place.signal);
        if (mine !== asked) return;
        await overlay(canvas, picture, found.png);
        fill(said, `Bright: what “${shortLabel(best.label)}” depends on. Largest ${found.unit}: ${Number(found.most.toPrecision(3))}.`);
      } catch (error) {
        if (error.name !== "AbortError") fill(said, failure(error));
      }
    });
    fill(side, h("h2", {}, shortLabel(best.label)), bars(answer.classes), picture && pick, picture && said,
      h("p", { class: "quiet" }, `${answer.width} x ${answer.height} pixels`));
  }

  function showBoxes(answer, { canvas, picture }) {
    const first = Number(place.params.get("threshold") || 0.5);
    const list = h("ol", { class: "found" });
    const said = h("output", { class: "numeric" });
    const most = Math.max(1, ...answer.boxes.map((b) => b.score)); // above 1: they are no probabilities
    const told = (score, digits) => (most > 1 ? score.toFixed(2) : `${(100 * score).toFixed(digits)} %`);
    const slider = h("input", { type: "range", min: 0, max: most, step: 0.01, value: first, id: "threshold" });
    const update = () => {
      const least = Number(slider.value);
      const kept = answer.boxes.filter((b) => b.score >= least);
      said.textContent = told(least, 0);
      draw(canvas, picture, answer);
      const g = canvas.getContext("2d");
      const unit = Math.max(canvas.width, canvas.height) / 500;
      for (const box of [...kept].reverse()) {
        g.lineWidth = 3 * unit;
        g.strokeStyle = colorOf(box.index);
        g.strokeRect(box.left, box.top, box.right - box.left, box.bottom - box.top);
        const text = `${shortLabel(box.label)} ${told(box.score, 0)}`;
        g.font = `600 ${14 * unit}px system-ui, sans-serif`;
        const y = Math.max(box.top, 20 * unit);
        g.fillStyle = colorOf(box.index, 30);
        g.fillRect(box.left, y - 20 * unit, g.measureText(text).width + 10 * unit, 20 * unit);
        g.fillStyle = "white";
        g.fillText(text, box.left + 5 * unit, y - 5 * unit);
      }
      fill(list, kept.map((b) => h("li", {}, h("span", { class: "dot", style: { background: colorOf(b.index) } }),
        h("span", {}, shortLabel(b.label)), h("span", { class: "numeric" }, told(b.score, 1)))));
    };
    slider.addEventListener("input", () => { update(); place.set({ threshold: slider.value }); });
    fill(side, h("h2", {}, "Objects"), h("div", { class: "field" },
      h("label", { for: "threshold" }, "Least score ", said), slider), list);
    update();
  }

  function showSegments(answer, { canvas, picture }) {
    const segments = answer.segments;
    draw(canvas, picture, answer);
    colored(segments.png).then((map) => {
      const g = canvas.getContext("2d");
      g.globalAlpha = 0.55;
      g.imageSmoothingEnabled = false;
      g.drawImage(map, 0, 0, canvas.width, canvas.height);
      g.globalAlpha = 1;
    });
    fill(side, h("h2", {}, "Classes"), h("ol", { class: "found" }, segments.classes.map((c) => h("li", {},
      h("span", { class: "dot", style: { background: colorOf(c.index) } }), h("span", {}, shortLabel(c.label)),
      h("span", { class: "numeric" }, `${(100 * c.share).toFixed(1)} %`)))));
  }

  async function openCamera() {
    if (!navigator.mediaDevices?.getUserMedia) {
      const input = h("input", { type: "file", accept: "image/*", capture: "environment" });
      input.addEventListener("change", () => input.files[0] && take(input.files[0]));
      input.click();
      return;
    }
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    } catch (error) {
      fill(pane, failure(new Error(`the camera cannot be opened: ${error.message}.`)));
      return;
    }
    const video = h("video", { autoplay: true, playsinline: true, muted: true, class: "picture" });
    video.srcObject = stream;
    stop = () => { for (const track of stream.getTracks()) track.stop(); stop = null; };
    fill(pane, video, h("p", { class: "actions" },
      button("Take the picture", () => {
        const canvas = h("canvas", { width: video.videoWidth, height: video.videoHeight });
        canvas.getContext("2d").drawImage(video, 0, 0);
        canvas.toBlob((blob) => take(blob), "image/jpeg", 0.95);
      }, { kind: "primary" }),
      button("Close", () => { stop(); fill(pane); })));
  }
}

function draw(canvas, picture, size = null) {
  canvas.width = size ? size.width : picture ? picture.width : 300;
  canvas.height = size ? size.height : picture ? picture.height : 200;
  const g = canvas.getContext("2d");
  if (picture) g.drawImage(picture, 0, 0, canvas.width, canvas.height);
  else { g.fillStyle = "#888"; g.fillRect(0, 0, canvas.width, canvas.height); }
}

async function pixelsOf(png) {
  const picture = new Image();
  picture.src = `data:image/png;base64,${png}`;
  await picture.decode();
  const canvas = h("canvas", { width: picture.width, height: picture.height });
  const g = canvas.getContext("2d", { willReadFrequently: true });
  g.drawImage(picture, 0, 0);
  return { canvas, g, data: g.getImageData(0, 0, picture.width, picture.height) };
}

// A gray map over the image: where it is dark, so becomes the image.
async function overlay(canvas, picture, png) {
  const { canvas: map, g, data } = await pixelsOf(png);
  for (let i = 0; i < data.data.length; i += 4) {
    const value = data.data[i];
    data.data[i] = data.data[i + 1] = data.data[i + 2] = 10;
    data.data[i + 3] = 215 - Math.round(value * 215 / 255);
  }
  g.putImageData(data, 0, 0);
  draw(canvas, picture);
  const to = canvas.getContext("2d");
  to.imageSmoothingQuality = "high";
  to.drawImage(map, 0, 0, canvas.width, canvas.height);
}

async function colored(png) {
  const { canvas, g, data } = await pixelsOf(png);
  const known = new Map();
  const dot = h("canvas", { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
  for (let i = 0; i < data.data.length; i += 4) {
    const number = data.data[i];
    if (!known.has(number)) {
      dot.fillStyle = colorOf(number);
      dot.fillRect(0, 0, 1, 1);
      known.set(number, [...dot.getImageData(0, 0, 1, 1).data]);
    }
    data.data.set(known.get(number), i);
  }
  g.putImageData(data, 0, 0);
  return canvas;
}
