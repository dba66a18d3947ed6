// The page of the API: what /openapi.json describes, with a line for a shell.

import { get } from "./api.js";
import { curl } from "./models.js";
import { copyLine, fill, h } from "./ui.js";

export async function show(root, place) {
  const told = await get("/openapi.json", {}, place.signal);
  const routes = Object.entries(told.paths).map(([path, methods]) => {
    const [method, route] = Object.entries(methods)[0];
    return h("section", { class: "card route" },
      h("h3", {}, h("span", { class: "method" }, method.toUpperCase()), h("code", {}, path)),
      h("p", {}, route.summary),
      route.parameters?.length > 0 && h("dl", {}, route.parameters.map((p) => [
        h("dt", {}, h("code", {}, p.name), p.schema.default !== undefined && h("span", { class: "quiet" }, `  by default ${p.schema.default}`)),
        h("dd", { class: "quiet" }, p.description)])),
      copyLine(line(path, method, route)),
      route.requestBody && h("details", {}, h("summary", {}, "Answers"), h("dl", {}, Object.entries(route.responses).map(([status, r]) => [
        h("dt", {}, h("code", {}, status)), h("dd", { class: "quiet" }, r.description)]))));
  });
  fill(root, h("div", { class: "head" }, h("div", {}, h("h1", {}, "API"), h("p", { class: "quiet" }, told.info.description))),
    h("p", {}, "For programs that read such documents: ", h("a", { href: "/openapi.json", download: "openapi.json" }, "openapi.json"), "."), routes);
}

function line(path, method, route) {
  const url = `${location.origin}${path}`;
  if (method === "get") return `curl ${url}`;
  const bodies = Object.keys(route.requestBody.content);
  return bodies.includes("image/*") ? curl(path) : `curl -F image_file=@image.jpg '${url}'`;
}
