import { empty, fill } from "./ui.js";

export async function show(root) {
  fill(root, empty("No runs yet", "Train a net, and its curves appear here."));
}
