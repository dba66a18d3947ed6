// The frame: finds the page for an address, shows it, and keeps the address in step.
//
// A page is a module static/<part>.js with `show(root, place)`. place has
//   path      what follows the part: "/jobs/new" -> ["new"]
//   params    the address's parameters, an URLSearchParams
//   signal    aborted when another page is shown
//   set(changes)  changes parameters of the address without another entry in the history
//   go(href)  opens another page

import { failure, fill, icon, waiting } from "./ui.js";

const main = document.getElementById("main");
const started = document.title;
let leaving = new AbortController();

async function show() {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const [part, ...path] = location.pathname.split("/").filter(Boolean);
  for (const a of document.querySelectorAll("header nav a")) {
    const here = a.getAttribute("href") === `/${part}`;
    if (here) a.setAttribute("aria-current", "page"); else a.removeAttribute("aria-current");
    if (here) document.title = `${a.textContent} – ${started}`;
  }
  const root = document.createElement("div");
  root.className = `page ${part}`;
  fill(main, waiting());
  try {
    const page = await import(`./${part}.js`);
    if (signal.aborted) return;
    const params = new URLSearchParams(location.search);
    const set = (changes) => {
      for (const [name, value] of Object.entries(changes)) {
        if (value === null || value === undefined || value === "") params.delete(name);
        else params.set(name, value);
      }
      if (signal.aborted) return;
      const text = params.toString();
      history.replaceState(null, "", location.pathname + (text ? `?${text}` : "") + location.hash);
    };
    fill(main, root);
    await page.show(root, { path, params, signal, set, go });
  } catch (error) {
    if (error.name !== "AbortError") fill(main, failure(error));
  }
}

export function go(href) {
  history.pushState(null, "", href);
  show().then(() => { main.focus({ preventScroll: true }); });
  scrollTo(0, 0);
}

document.addEventListener("click", (event) => {
  const a = event.target.closest("a");
  if (!a || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
  const href = a.getAttribute("href") || "";
  if (href === "#main") { // the address keeps what stands behind its own #
    event.preventDefault();
    main.focus();
  }
  if (!href.startsWith("/") || href.startsWith("/api/") || href.startsWith("/static/") || href.startsWith("/v1") || a.download) return;
  event.preventDefault();
  go(href);
});
addEventListener("popstate", show);

const theme = document.getElementById("theme");
theme.append(icon("sun"));
theme.addEventListener("click", () => {
  const dark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("moka-theme", document.documentElement.dataset.theme);
  dispatchEvent(new Event("themechange"));
});

show();
