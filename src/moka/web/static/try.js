// The page Try: one image, a folder of images, or their features in a plane.

import { get } from "./api.js";
import { showFolder } from "./tryfolder.js";
import { showImage } from "./tryimage.js";
import { showPlane } from "./tryplane.js";
import { choice, empty, failure, field, fill, h, link, select, waiting } from "./ui.js";

const VIEWS = [["image", "One image"], ["folder", "A folder"], ["plane", "Features"]];
const SHOWN = { image: showImage, folder: showFolder, plane: showPlane };

export async function show(root, place) {
  const { models } = await get("/v1/models", {}, place.signal);
  if (!models.length) {
    fill(root, h("h1", {}, "Try"), empty("No models yet",
      "A model is a folder with a deploy.prototxt and a .caffemodel, or a run that has saved a snapshot.", link("Train one", "/jobs/new", { kind: "primary", glyph: "plus" })));
    return;
  }
  const head = h("div", { class: "head" });
  const body = h("div", { class: "page" });
  fill(root, head, body);
  let leaving = new AbortController();
  place.signal.addEventListener("abort", () => leaving.abort());

  async function view() {
    leaving.abort();
    leaving = new AbortController();
    const name = models.some((m) => m.name === place.params.get("model")) ? place.params.get("model") : models[0].name;
    const kind = SHOWN[place.params.get("view")] ? place.params.get("view") : "image";
    fill(head, h("div", {}, h("h1", {}, "Try"), models.length === 1 && h("p", { class: "quiet" }, name)),
      h("div", { class: "actions" },
        models.length > 1 && field("Model", select(models.map((m) => m.name), name, (value) => { place.set({ model: value }); view(); })),
        choice("Show", VIEWS, kind, (value) => { place.set({ view: value === "image" ? "" : value }); view(); })));
    fill(body, waiting(`Loading ${name}`));
    try {
      const model = await get("/v1/models", { model: name }, leaving.signal);
      await SHOWN[kind](body, model, { ...place, signal: leaving.signal });
    } catch (error) {
      if (error.name !== "AbortError") fill(body, failure(error));
    }
  }
  await view();
}
