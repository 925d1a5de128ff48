// The worklist: filters without a reload, rows that follow the node, files that are dropped on it.
import { complaint, post, proof, say } from "./page.js";

const rows = document.getElementById("rows");
const filters = document.querySelector("form.filters");
let asked = 0;

/** Draw the rows again, unless a later request overtakes this one or someone is in a menu of theirs. */
async function draw() {
  if (rows.querySelector("details[open]")) return;
  const mine = ++asked;
  try {
    const answer = await fetch(location.href, { headers: { "X-Part": "rows", Accept: "text/html" } });
    if (mine !== asked) return;
    if (answer.status === 401) return location.reload();
    if (!answer.ok) return say(await complaint(answer), true);
    const held = document.activeElement?.closest("#rows") ? document.activeElement : null;
    const key = held?.getAttribute("href") ?? held?.dataset?.post;
    const text = await answer.text();
    if (mine !== asked) return;
    rows.replaceChildren(...new DOMParser().parseFromString(text, "text/html").body.childNodes);
    if (key) [...rows.querySelectorAll("a, button")].find((one) => (one.getAttribute("href") ?? one.dataset.post) === key)?.focus();
  } catch {
    say("The server does not answer; trying again.", true);
  }
}

function follow() {
  const events = new EventSource("/events");
  events.addEventListener("open", draw);
  events.addEventListener("changed", draw);
}

let waiting;
function filter() {
  const values = [...new FormData(filters)].filter(([key, value]) => value && !(key === "order" && value === "newest"));
  history.replaceState(null, "", values.length ? `/?${new URLSearchParams(values)}` : "/");
  draw();
}
filters.addEventListener("submit", (event) => (event.preventDefault(), filter()));
filters.addEventListener("change", filter);
filters.addEventListener("input", () => (clearTimeout(waiting), (waiting = setTimeout(filter, 250))));
document.addEventListener("acted", draw);
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !/INPUT|SELECT|TEXTAREA/.test(document.activeElement.tagName)) {
    event.preventDefault();
    document.getElementById("text").focus();
  }
});
follow();

// ---- adding studies ----

const drop = document.getElementById("drop");
const sending = document.getElementById("sending");
let stopped = false;
let busy = false;

async function filesOf(entry) {
  if (entry.isFile) return [await new Promise((done, failed) => entry.file(done, failed))];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!some.length) return found;
    for (const one of some) found.push(...(await filesOf(one)));
  }
}

function send(file, onProgress) {
  return new Promise((done) => {
    const request = new XMLHttpRequest();
    request.open("POST", "/api/v1/upload");
    request.setRequestHeader("Content-Type", "application/octet-stream");
    for (const [name, value] of Object.entries(proof())) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", (event) => onProgress(event.loaded));
    request.addEventListener("loadend", () => {
      try {
        done({ status: request.status, said: JSON.parse(request.responseText || "{}") });
      } catch {
        done({ status: request.status, said: {} });
      }
    });
    sending.querySelector("button").onclick = () => ((stopped = true), request.abort());
    request.send(file);
  });
}

async function upload(files) {
  if (busy || !files.length) return;
  busy = true;
  stopped = false;
  const [text, bar] = [sending.querySelector("p"), sending.querySelector("progress")];
  const total = files.reduce((sum, file) => sum + file.size, 0) || 1;
  let before = 0, kept = 0, refused = 0, problem = "";
  const studies = new Set();
  sending.hidden = false;
  for (const [number, file] of files.entries()) {
    if (stopped) break;
    text.textContent = `Adding file ${number + 1} of ${files.length}`;
    const { status, said } = await send(file, (loaded) => (bar.value = (before + loaded) / total));
    before += file.size;
    if (status === 200) (kept += said.kept), (refused += said.refused), said.studies.forEach((one) => studies.add(one)), (problem ||= said.reasons?.[0] ?? "");
    else if (!stopped) (refused += 1), (problem ||= said.fact ?? said.detail ?? `the server answered ${status}`);
  }
  if (studies.size && !stopped) await post("/api/v1/upload/finished", { studies: [...studies].slice(0, 1000) });
  busy = false;
  sending.hidden = true;
  const parts = [`${kept} image${kept === 1 ? "" : "s"} added`];
  if (refused) parts.push(`${refused} not taken (${problem})`);
  if (stopped) parts.push("stopped");
  say(parts.join(", "), refused > 0);
  draw();
}

if (drop) {
  let depth = 0;
  const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  addEventListener("dragenter", (event) => hasFiles(event) && ((depth += 1), (drop.hidden = false)));
  addEventListener("dragleave", () => (depth = Math.max(0, depth - 1)) === 0 && (drop.hidden = true));
  addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
  addEventListener("drop", async (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    depth = 0;
    drop.hidden = true;
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
    upload((await Promise.all(entries.map(filesOf))).flat());
  });
  for (const kind of ["files", "folder"]) {
    const input = document.getElementById(kind);
    input.addEventListener("change", () => (upload([...input.files]), (input.value = "")));
    document.getElementById(`add-${kind}`).addEventListener("click", () => input.click());
  }
}
