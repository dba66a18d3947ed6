// Requests to this server. An answer that is no success becomes an Error with its sentence.

let site = null;

export async function about() {
  if (!site) site = await get("/api/site");
  return site;
}

export function address(path, values = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    if (value === undefined || value === null || value === "") continue;
    query.set(name, value);
  }
  const text = query.toString();
  return text ? `${path}?${text}` : path;
}

export async function get(path, values = {}, signal = undefined) {
  return read(await fetch(address(path, values), { signal }));
}

export async function post(path, fields = {}, signal = undefined) {
  return send(path, JSON.stringify(fields), { "Content-Type": "application/json" }, signal);
}

// A form with files (FormData), as multipart.
export async function upload(path, form, signal = undefined) {
  return send(path, form, {}, signal);
}

async function send(path, body, headers, signal) {
  for (let tries = 0; ; tries++) {
    const { csrf } = await about();
    const answer = await fetch(path, {
      method: "POST", body, signal, headers: { ...headers, "X-Moka-CSRF": csrf },
    });
    if (answer.status === 403 && tries === 0 && (await answer.clone().json()).stale) {
      site = null; // the server was started anew
      continue;
    }
    return read(answer);
  }
}

async function read(answer) {
  const type = answer.headers.get("Content-Type") || "";
  const value = type.includes("json") ? await answer.json() : await answer.blob();
  if (!answer.ok) {
    const error = new Error(value.error || `the server answered ${answer.status}.`);
    error.status = answer.status;
    throw error;
  }
  return value;
}

// Server-sent events until `signal` is aborted; the browser connects anew by itself.
export function listen(path, values, signal, each) {
  const source = new EventSource(address(path, values));
  source.onmessage = (event) => each(JSON.parse(event.data));
  signal.addEventListener("abort", () => source.close());
  return source;
}
