// The study's page: which series is shown, what models said of it, and jumping to it.
import { firstOf, get, viewUrl, volumeUrl } from "./ahead.js";
import { ask, complaint, make, post, proof, say } from "./page.js";
import { VIEWS, Viewer } from "./viewer.js";
import { Beside } from "./beside.js";
import { Maps } from "./maps.js";
import { Review } from "./review.js";

const CT_WINDOWS = { "Lung": [-600, 1500], "Mediastinum": [50, 350], "Abdomen": [40, 400], "Bone": [400, 1800], "Brain": [40, 80], "Liver": [60, 160] };
const KEYS = [
  ["1 … 7", "window"], ["p a c s d", "planes, axial, coronal, sagittal, 3-D"], ["arrow keys", "move in the plane"],
  ["Page up, Page down", "next slice"], ["n, b", "next finding, the one before"], ["o", "overlay on and off"],
  ["+ −", "overlay stronger, weaker"], ["m", "measure a length"], ["right drag", "window by hand"],
  ["u", "undo a stroke"], ["?", "this list"],
];

const root = document.documentElement;
const page = document.getElementById("study");
const study = page.dataset.study;
const [canvas, veil, readout, plate] = ["canvas", "veil", "readout", "plate"].map((id) => document.getElementById(id));
const [seriesChoice, windowChoice, opacity, answersBox] = ["series", "window", "opacity", "answers"].map((id) => document.getElementById(id));
const viewer = new Viewer(canvas, told);
const beside = new Beside(viewer, say, (answer) => {
  show(answer, false); // it is seen beside, and not twice
  const tick = document.getElementById(`lay-${keyOf(answer)}`);
  if (tick) tick.checked = false;
  viewer.tell();
});
const maps = new Maps(viewer, opacity, say);
const cards = new Map(); // by answer: what was drawn of it, kept while it says the same or is being corrected
let about = { series: [], answers: [], priors: [], point_models: [] };
let shown = null;
let jump = { list: [], at: -1 };
let opened = 0;

const fixed = (value, digits) => (Object.is(Math.round(value * 10 ** digits), -0) ? 0 : value).toFixed(digits);

function told({ lps, vox, value, labels }) {
  if (!shown) return;
  const unit = shown.modality === "CT" ? " HU" : "";
  const where = shown.kind === "projection" ? "" : `L ${fixed(lps[0], 1)}  P ${fixed(lps[1], 1)}  S ${fixed(lps[2], 1)} mm   `;
  const number = Number.isFinite(value) ? (Number.isInteger(value) ? value : value.toPrecision(4)) : "–";
  readout.textContent = `${where}voxel ${vox.join(", ")}   value ${number}${unit}   ${labels.join(", ")}`;
  beside.follow(lps);
  Object.assign(readout.dataset, { vox: vox.join(","), value: String(value), labels: labels.join("|"), lps: lps.map((one) => fixed(one, 3)).join(",") });
}

// ---- series, views, windows ----

let turn = Promise.resolve();

/** Ask the server again what there is, one time after the other; whoever waits for it sees what came. */
function load() {
  turn = turn.then(refresh).catch(() => say("The server does not answer; trying again.", true));
  return turn;
}

async function refresh() {
  const answer = await get(viewUrl(study));
  if (answer.status === 401) return location.reload();
  if (!answer.ok) return (veil.textContent = await complaint(answer));
  about = await answer.json();
  const kept = seriesChoice.value;
  seriesChoice.replaceChildren(...about.series.map((one) => make("option", { value: one.name, disabled: Boolean(one.problem) }, title(one))));
  if (!shown) {
    const best = firstOf(about);
    if (best) seriesChoice.value = best.name;
    else veil.textContent = about.series.length ? `No series can be shown: ${about.series[0].problem}.` : "Nothing has come yet.";
    await open();
  } else {
    seriesChoice.value = kept;
    drawAnswers();
    await receivePoints();
  }
}

function title(series) {
  const size = series.shape.length ? ` ${series.shape.join("×")}` : "";
  return `${series.modality} ${series.description || series.kind}${size}${series.problem ? ` (${series.problem})` : ""}`;
}

async function open() {
  const mine = ++opened;
  beside.close();
  maps.forget();
  cards.clear();
  shown = about.series.find((one) => one.name === seriesChoice.value && !one.problem) ?? null;
  drawAnswers();
  if (!shown) return;
  veil.hidden = false;
  veil.textContent = "Loading…";
  const began = performance.now();
  try {
    await viewer.open(volumeUrl(study, shown.name), {
      flat: shown.kind === "projection",
      window: shown.modality === "CT" ? around(CT_WINDOWS.Lung) : null,
    });
  } catch (error) {
    if (mine === opened) veil.textContent = `This series cannot be shown (${error.message ?? "no WebGL2"}).`;
    return;
  }
  if (mine !== opened) return;
  drawViews();
  drawWindows();
  const notes = [...shown.notes];
  if (shown.repaired) notes.unshift("Shown after its slices were resampled to a uniform grid.");
  document.getElementById("notes").textContent = notes.join(" · ");
  plate.textContent = shown.kind === "projection" ? "Projection: no place in the patient" : `${shown.spacing_mm.slice().reverse().map((one) => +one.toFixed(2)).join(" × ")} mm`;
  await viewer.ready;
  veil.hidden = true;
  page.dataset.ready = String(Math.round(performance.now() - began));
  for (const answer of here()) if (answer.status === "done" && answer === latest(answer)) await show(answer, true);
  viewer.tell();
  preparePoints();
}

function drawViews() {
  const names = shown.kind === "projection" ? [] : Object.keys(VIEWS);
  document.getElementById("views").replaceChildren(
    ...names.map((name) => make("button", { type: "button", "data-view": name, "aria-pressed": String(name === "planes"), onclick: () => setView(name) }, VIEWS[name])),
  );
}

function setView(name) {
  if (!shown || shown.kind === "projection") return;
  viewer.view(name);
  beside.view(name);
  page.dataset.view = name;
  for (const button of document.querySelectorAll("#views button")) button.setAttribute("aria-pressed", String(button.dataset.view === name));
}

const around = ([level, width]) => [level - width / 2, level + width / 2];

function windows() {
  const { low, high, least, most } = viewer.range;
  const own = { "Automatic": [low, high], "Whole range": [least, most] };
  const ct = Object.fromEntries(Object.entries(CT_WINDOWS).map(([name, one]) => [name, around(one)]));
  return shown.modality === "CT" ? { ...ct, "Automatic": own.Automatic } : own;
}

function drawWindows() {
  const all = windows();
  windowChoice.replaceChildren(...Object.entries(all).map(([name, [low, high]], number) =>
    make("option", { value: name }, shown.modality === "CT" ? `${number + 1}  ${name} (${Math.round((low + high) / 2)}/${Math.round(high - low)})` : `${number + 1}  ${name}`)));
}

function setWindow(name) {
  const chosen = windows()[name];
  if (!chosen) return;
  windowChoice.value = name;
  viewer.window(...chosen);
  if (shown.modality === "CT") beside.window(...chosen);
}

// ---- answers ----

const here = () => about.answers.filter((one) => one.series === shown?.name || !one.series);
const latest = (answer) => here().find((one) => one.model === answer.model && one.status === "done");
const keyOf = (answer) => `${answer.job}/${answer.series}`;

function segmentsOf(answer) {
  return answer.segments.map((one) => ({ number: one.number, label: one.label, rgb: one.colour_rgb }));
}

async function show(answer, on) {
  const key = keyOf(answer);
  if (!on) return viewer.lift(key);
  if (!answer.files.includes("nifti") || !answer.segments.length) return;
  try {
    await viewer.lay(key, `/api/v1/jobs/${answer.job}/series/${answer.series}/nifti`, segmentsOf(answer));
    viewer.fade(key, Number(opacity.value));
    page.dataset.overlays = String(viewer.layers.size);
    viewer.tell();
  } catch (error) {
    say(`The overlay cannot be shown (${error.message}).`, true);
  }
}

function drawAnswers() {
  const list = here();
  const before = jump.list[jump.at]?.button;
  const boxes = list.map(drawn);
  jump.list = list.flatMap((answer) => cards.get(keyOf(answer)).places);
  jump.at = jump.list.findIndex((one) => one.button === before);
  if (!boxes.length) boxes.push(make("section", { class: "card" }, make("p", {}, "No model has read this series.")));
  if (boxes.length !== answersBox.children.length || boxes.some((box, place) => box !== answersBox.children[place])) answersBox.replaceChildren(...boxes);
  beside.offer(about, shown, shown ? list : [], segmentsOf);
  drawPoint();
}

/** The card of an answer, drawn anew only when it says something else and nobody is correcting it. */
function drawn(answer) {
  const key = keyOf(answer);
  const says = JSON.stringify([answer, answer === latest(answer)]);
  const kept = cards.get(key);
  if (kept && (kept.says === says || kept.review?.busy)) return kept.box;
  const made = { says, places: [], review: null };
  cards.set(key, made);
  made.box = card(answer, made);
  return made.box;
}

function card(answer, made) {
  const done = answer.status === "done";
  const words = { done: "done", refused: "refused", failed: "failed" };
  const box = make("section", { class: `card answer${answer === latest(answer) || !done ? "" : " off"}`, "data-job": answer.job },
    make("header", {}, make("h2", {}, answer.package), make("span", { class: `state ${answer.status}` }, words[answer.status] ?? answer.state),
      answer.shadow && make("span", { class: "tag" }, "shadow")),
    make("p", { class: "hint" }, `${new Date(answer.at * 1000).toISOString().slice(0, 16).replace("T", " ")} UTC · ${answer.precision} · job ${answer.job}`),
    answer.reason && make("p", { class: "why" }, answer.reason));
  for (const warning of answer.warnings ?? []) box.append(make("p", { class: "warned" }, warning));
  if (!done) return box;
  if (answer.segments.length) box.append(segmentList(answer));
  const placed = answer.findings.filter((one) => one.centre_lps_mm || !answer.class_scores.length); // scores have a table
  if (placed.length) box.append(findingList({ ...answer, findings: placed }, made.places));
  if (answer.class_scores.length) box.append(scoreTable(answer));
  if (answer.maps.length) box.append(maps.list(answer));
  if (!answer.findings.length && !answer.class_scores.length) box.append(make("p", {}, "Nothing found."));
  box.append(make("div", { class: "files" }, ...answer.files.map((kind) =>
    make("a", { class: "button", href: `/api/v1/jobs/${answer.job}/series/${answer.series}/${kind}`, download: true }, { seg: "SEG", sr: "SR", nifti: "NIfTI", json: "JSON", report: "Report" }[kind]))));
  made.review = new Review({ answer, study, viewer, root, make, say, ask, post, proof, complaint, keyOf, segmentsOf, reload: () => load(), opacity });
  box.append(made.review.box);
  return box;
}

function segmentList(answer) {
  const key = keyOf(answer);
  const list = make("ul", { class: "segments" });
  const on = viewer.layers.has(key) || answer === latest(answer);
  list.append(make("li", {}, make("input", { type: "checkbox", id: `lay-${key}`, ...(on ? { checked: true } : {}), onchange: (event) => show(answer, event.target.checked) }), make("span"), make("label", { for: `lay-${key}` }, "Overlay")));
  for (const one of segmentsOf(answer)) {
    const chip = make("span", { class: "chip" });
    chip.style.backgroundColor = `rgb(${one.rgb.join(" ")})`;
    const id = `seg-${key}-${one.number}`;
    const slider = make("input", { type: "range", min: 0, max: 1, step: 0.1, value: 1, "aria-label": `Opacity of ${one.label}`, oninput: (event) => viewer.fadeSegment(key, one.number, Number(event.target.value)) });
    const tick = make("input", { type: "checkbox", id, checked: true, onchange: (event) => {
      viewer.fadeSegment(key, one.number, event.target.checked ? Number(slider.value) : 0);
    } });
    list.append(make("li", {}, tick, chip, make("label", { for: id }, one.label), slider));
  }
  return list;
}

const UNITS = { "mm": "mm", "ml": "ml", "mm3": "mm³", "cm3": "cm³", "1": "", "[hnsf'U]": "HU", "{Hounsfield}": "HU", "%": "%" };

const SIZES = new Set(["ml", "mm"]); // what a line shows; the rest is named where the pointer rests

function findingList(answer, places) {
  const names = new Map(answer.segments.map((one) => [one.number, one.label]));
  const list = make("ul", { class: "findings" });
  for (const one of answer.findings) {
    if (!one.centre_lps_mm && answer.class_scores.length) continue; // the table of scores says it
    const label = names.get(one.segment_number) ?? one.concept?.meaning ?? "Finding";
    const part = one.component ? ` ${one.component}` : "";
    const values = one.measurements.filter((m) => SIZES.has(m.unit)).slice(0, 2).map((m) => `${Number(m.value.toPrecision(3))} ${UNITS[m.unit] ?? m.unit}`.trim());
    if (one.score != null) values.unshift(`score ${one.score.toFixed(2)}`);
    const at = one.centre_lps_mm;
    const button = make("button", { type: "button", disabled: !at, title: one.measurements.map((m) => `${m.concept.meaning}: ${Number(m.value.toPrecision(4))} ${UNITS[m.unit] ?? m.unit}`).join("\n"), onclick: () => go(jump.list.findIndex((entry) => entry.button === button)) },
      make("span", {}, `${label}${part}`), make("span", { class: "v" }, values.join(" · ")));
    if (at) places.push({ at, button });
    list.append(make("li", {}, button));
  }
  return list;
}

function scoreTable(answer) {
  const table = make("table", { class: "scores" }, make("caption", { class: "sr" }, "Scores"));
  for (const one of answer.class_scores) {
    const called = Object.entries(one.called ?? {}).filter(([, yes]) => yes).map(([name]) => name);
    table.append(make("tr", {}, make("th", { scope: "row" }, one.label),
      make("td", {}, make("meter", { min: 0, max: 1, value: one.probability, "aria-label": one.label })),
      make("td", { class: "n" }, one.probability.toFixed(3)), make("td", {}, make("small", {}, called.length ? `above ${called.join(", ")}` : ""))));
  }
  return table;
}

function go(number) {
  if (!jump.list.length) return;
  jump.at = (number + jump.list.length) % jump.list.length;
  for (const [place, one] of jump.list.entries()) one.button.setAttribute("aria-current", String(place === jump.at));
  viewer.goTo(jump.list[jump.at].at);
}

// ---- controls ----

seriesChoice.addEventListener("change", open);
windowChoice.addEventListener("change", () => setWindow(windowChoice.value));
opacity.addEventListener("input", () => {
  viewer.fadeAll(Number(opacity.value));
  beside.fade(Number(opacity.value));
});

const measure = document.getElementById("measure");
measure.addEventListener("click", () => {
  const on = measure.getAttribute("aria-pressed") !== "true";
  measure.setAttribute("aria-pressed", String(on));
  viewer.measure(on);
});

const help = document.getElementById("help");
document.getElementById("keys").append(...KEYS.flatMap(([key, what]) => [make("dt", {}, key), make("dd", {}, what)]));
document.getElementById("help-open").addEventListener("click", () => help.showModal());

function fadeBy(step) {
  opacity.value = String(Number(opacity.value) + step);
  opacity.dispatchEvent(new Event("input"));
}

let before = 0.5;
const STEPS = { ArrowLeft: [-1, 0, 0], ArrowRight: [1, 0, 0], ArrowUp: [0, 1, 0], ArrowDown: [0, -1, 0], PageUp: [0, 0, 1], PageDown: [0, 0, -1] };
const LETTERS = {
  p: () => setView("planes"), a: () => setView("axial"), c: () => setView("coronal"), s: () => setView("sagittal"), d: () => setView("render"),
  n: () => go(jump.at + 1), b: () => go(jump.at - 1), m: () => measure.click(), u: () => viewer.undo(), "?": () => help.showModal(),
  "+": () => fadeBy(0.1), "=": () => fadeBy(0.1), "-": () => fadeBy(-0.1),
  o: () => {
    const now = Number(opacity.value);
    if (now > 0) before = now;
    opacity.value = String(now > 0 ? 0 : before);
    opacity.dispatchEvent(new Event("input"));
  },
};

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !shown || document.querySelector("dialog[open]")) return;
  const tag = event.target.tagName;
  if (/TEXTAREA|SELECT/.test(tag) || (tag === "INPUT" && event.target.type !== "checkbox")) return;
  if (event.key in STEPS && (event.target === canvas || event.target === document.body)) viewer.step(...STEPS[event.key]);
  else if (/^[1-7]$/.test(event.key)) setWindow(Object.keys(windows())[Number(event.key) - 1]);
  else if (event.key in LETTERS) LETTERS[event.key]();
  else return;
  event.preventDefault();
  event.stopPropagation();
}, { capture: true });

// ---- a model at the cross ----

const asked = new Set();

const pointBox = document.getElementById("point-models"); // reviewers have it
const pointState = document.getElementById("point-state");
const pointModels = () => about.point_models.filter((one) => one.modality === shown?.modality);

function drawPoint() {
  if (!pointBox) return;
  const fitting = pointModels();
  document.getElementById("point").hidden = !fitting.length;
  if (fitting.map((one) => one.title).join() === [...pointBox.children].map((one) => one.textContent).join()) return;
  pointBox.replaceChildren(...fitting.map((one) => make("button", { type: "button", class: "primary", onclick: () => askAt(one) }, one.title)));
}

/** Let the server load scan and model before anybody asks. */
function preparePoints() {
  const [model] = pointModels();
  if (pointBox && model) post(`/api/v1/studies/${study}/series/${shown.name}/point/prepare`, { model: model.reference });
}

async function askAt(model) {
  const began = performance.now();
  pointState.textContent = "It reads the place…";
  const answer = await post(`/api/v1/studies/${study}/series/${shown.name}/point`, { model: model.reference, lps_mm: viewer.place });
  if (!answer) return void (pointState.textContent = "");
  const { job, seen } = await answer.json();
  asked.add(job);
  if (seen.segments) await preview(job, seen, began);
  await load();
}

/** Show what the model found while it is still being written: only a box of labels, without a card. */
async function preview(job, seen, began) {
  const words = seen.segments.map((one) => `${one.label}: ${Number(one.volume_ml.toPrecision(3))} ml`).join(", ");
  pointState.textContent = seen.nifti ? `${words}. Being written…` : "Nothing was found there. Being written…";
  pointBox.dataset.answered = ((performance.now() - began) / 1000).toFixed(2);
  if (seen.nifti) {
    const url = `data:application/octet-stream;base64,${seen.nifti}`;
    await viewer.lay(`preview-${job}`, url, segmentsOf(seen), true);
    viewer.fade(`preview-${job}`, Number(opacity.value));
  }
  pointBox.dataset.seconds = ((performance.now() - began) / 1000).toFixed(2);
}

/** Show what came of a point as soon as it is there. */
async function receivePoints() {
  for (const answer of about.answers.filter((one) => asked.has(one.job) && !["waiting", "running"].includes(one.state))) {
    asked.delete(answer.job);
    viewer.lift(`preview-${answer.job}`);
    pointBox.dataset.asked = String(Number(pointBox.dataset.asked ?? 0) + 1);
    pointState.textContent = answer.status === "done" ? "" : `${answer.status}: ${answer.reason}`;
    if (answer.status !== "done" || answer.series !== shown?.name) continue;
    await show(answer, true);
    const place = jump.list.findIndex((one) => cards.get(keyOf(answer)).places.includes(one));
    if (place >= 0) go(place);
  }
  if (asked.size) setTimeout(() => load(), 700);
}

await load();
const events = new EventSource("/events");
for (const kind of ["open", "changed"]) events.addEventListener(kind, load);
page.dataset.viewer = "1";
window.hounsfieldBeside = beside;
window.hounsfieldViewer = viewer; // for tests and for people who look under the bonnet
