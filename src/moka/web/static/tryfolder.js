// A folder of images at once: confusion matrix, accuracy of each class, the surest mistakes.

import { post, upload } from "./api.js";
import { count } from "./format.js";
import { classOf, dropzone, isImage, shortLabel } from "./models.js";
import { empty, failure, fill, h, progress, table } from "./ui.js";

const AT_ONCE = 16;
const MOST_SHOWN = 40;
const MOST_WORST = 24;

// What a model answers for each file, in parts; tell(done) after each.
export async function askAll(route, values, files, signal, tell) {
  const answers = [];
  for (let first = 0; first < files.length; first += AT_ONCE) {
    const part = files.slice(first, first + AT_ONCE);
    const form = new FormData();
    for (const [name, value] of Object.entries(values)) form.set(name, value);
    form.set("upright", "true");
    for (const file of part) form.append("image", file, file.name);
    answers.push(...await patient(() => upload(route, form, signal)).then((a) => part.length === 1 ? [a.images[0]] : a.images));
    tell(answers.length);
  }
  return answers;
}

// Asks again for as long as the server is busy.
async function patient(ask) {
  for (let wait = 500; ; wait = Math.min(2 * wait, 8000)) {
    try {
      return await ask();
    } catch (error) {
      if (error.status !== 429) throw error;
      await new Promise((resolve) => { setTimeout(resolve, wait); });
    }
  }
}

export function showFolder(root, model, place) {
  if (model.kind !== "classes") {
    fill(root, empty("This model gives no classes", "A folder can be tried with a model that classifies images."));
    return;
  }
  const result = h("section", { class: "page", "aria-live": "polite" });
  const zone = dropzone("Choose or drop a folder: in it a folder for each class", take, { folder: true });
  fill(root, zone, result);
  fill(result, h("p", { class: "quiet" }, "The folders are called after the classes: by a label, its first name, WordNet's number (n02123045), or its number."));

  async function take(all) {
    const files = all.filter(isImage);
    if (!files.length) { fill(result, failure(new Error("the folder holds no images."))); return; }
    const bar = h("div", { class: "card" });
    fill(result, bar);
    const tell = (done) => fill(bar, h("p", {}, `${done} of ${files.length} images`), progress(done / files.length, "Images that were asked"));
    tell(0);
    try {
      const answers = await askAll("/v1/classify", { model: model.name, top: 1 }, files, place.signal, tell);
      const good = answers.map((a, i) => ({ file: files[i], answer: a })).filter((each) => each.answer.classes);
      const broken = answers.map((a, i) => ({ file: files[i], answer: a })).filter((each) => each.answer.error);
      if (!good.length) throw new Error(broken[0] ? broken[0].answer.error : "no image was answered.");
      const found = await post("/api/try/confusion", {
        model: model.name,
        images: good.map(({ file, answer }) => ({ truth: classOf(file), index: answer.classes[0].index, score: answer.classes[0].score })),
      }, place.signal);
      fill(result, told(found, good, broken));
    } catch (error) {
      if (error.name !== "AbortError") fill(result, failure(error));
    }
  }

  function told(found, good, broken) {
    const all = found.classes.reduce((sum, c) => sum + c.count, 0);
    return [
      h("dl", { class: "stats card" },
        h("div", {}, h("dt", {}, "Accuracy"), h("dd", {}, `${(100 * found.accuracy).toFixed(1)} %`)),
        h("div", {}, h("dt", {}, "Images"), h("dd", {}, count(all))),
        h("div", {}, h("dt", {}, "Mistakes"), h("dd", {}, count(found.worst.length))),
        h("div", {}, h("dt", {}, "Not readable"), h("dd", {}, count(broken.length)))),
      found.strangers.length > 0 && h("p", { class: "quiet" }, `Left out, for no class is called so: ${found.strangers.slice(0, 8).map((s) => s || "(no folder)").join(", ")}.`),
      matrix(found),
      worst(found, good),
      classes(found),
      broken.length > 0 && h("details", { class: "card" }, h("summary", {}, `${broken.length} files could not be read`),
        h("ul", { class: "plainlist" }, broken.slice(0, 100).map((b) => h("li", {}, `${b.file.name}: ${b.answer.error}`)))),
    ];
  }
}

function matrix(found) {
  const order = found.classes.map((c, i) => i).sort((a, b) => found.classes[b].count - found.classes[a].count).slice(0, MOST_SHOWN).sort((a, b) => a - b);
  const most = Math.max(1, ...order.map((i) => Math.max(...order.map((j) => found.matrix[i][j]))));
  const names = order.map((i) => shortLabel(found.classes[i].label));
  return h("section", { class: "card" }, h("h2", {}, "Confusion"),
    h("p", { class: "quiet" }, `Rows: the folder. Columns: what the model says.${found.classes.length > order.length ? ` The ${order.length} largest of ${found.classes.length} classes.` : ""}`),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Confusion matrix" }, h("table", { class: "confusion" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Folder"), names.map((n) => h("th", { scope: "col" }, h("span", {}, n))))),
      h("tbody", {}, order.map((i, r) => h("tr", {}, h("th", { scope: "row" }, names[r]),
        order.map((j) => {
          const value = found.matrix[i][j];
          const share = Math.sqrt(value / most);
          return h("td", { class: i === j ? "right" : value ? "wrong" : null, style: value ? { background: `color-mix(in srgb, var(${i === j ? "--good" : "--bad"}) ${(60 * share).toFixed(0)}%, var(--surface))` } : null, title: `${names[r]} taken for ${shortLabel(found.classes[j].label)}: ${value}` }, value || "");
        })))))));
}

function worst(found, good) {
  if (!found.worst.length) return null;
  return h("section", { class: "card" }, h("h2", {}, "The surest mistakes"), h("ul", { class: "mistakes" },
    found.worst.slice(0, MOST_WORST).map((i) => {
      const { file, answer } = good[i];
      const says = shortLabel(answer.classes[0].label);
      return h("li", {}, thumb(file), h("b", {}, says), h("span", { class: "quiet" }, `${(100 * answer.classes[0].score).toFixed(0)} %, in folder ${classOf(file)}`));
    })));
}

export function thumb(file) {
  const url = URL.createObjectURL(file);
  return h("img", { src: url, alt: file.name, title: file.path || file.webkitRelativePath || file.name, loading: "lazy", onload: () => URL.revokeObjectURL(url) });
}

function classes(found) {
  const rows = found.classes.filter((c) => c.count);
  return table([
    { name: "label", title: "Class", cell: (c) => shortLabel(c.label), head: true },
    { name: "count", title: "Images", numeric: true, cell: (c) => count(c.count) },
    { name: "right", title: "Recognized", numeric: true, cell: (c) => count(c.right) },
    { name: "accuracy", title: "Accuracy", numeric: true, cell: (c) => `${(100 * c.right / c.count).toFixed(1)} %` },
  ], [...rows].sort((a, b) => a.right / a.count - b.right / b.count), { caption: "Accuracy of each class, the worst first" });
}
