// What a study's page needs first, asked for before the viewer's large program has come: the study, and the voxels of
// the series that will be shown. Whoever asks for the same address gets that answer.
const begun = new Map();
const asked = new Set();

/** As fetch, but an answer that was begun ahead is taken, once. */
export function get(url) {
  const answer = begun.get(url);
  asked.add(url);
  begun.delete(url);
  return answer ?? fetch(url);
}

export const viewUrl = (study) => `/api/v1/studies/${study}/view`;
export const volumeUrl = (study, series) => `/api/v1/studies/${study}/series/${series}/volume.nii`;

/** The series that is shown first: one that a model has read, else any that can be shown. */
export function firstOf({ series, answers }) {
  const shown = series.filter((one) => !one.problem);
  return shown.find((one) => answers.some((answer) => answer.series === one.name && answer.status === "done")) ?? shown[0];
}

/** An answer whose bytes are fetched at once, not when they are asked for. */
async function whole(url) {
  const said = await fetch(url);
  const bytes = said.arrayBuffer();
  bytes.catch(() => {});
  return { ok: said.ok, status: said.status, statusText: said.statusText, arrayBuffer: () => bytes };
}

function begin(url, answer) {
  answer.catch(() => {}); // whoever takes it is told
  begun.set(url, answer);
  return answer;
}

async function beginVolume(study) {
  const said = await begin(viewUrl(study), fetch(viewUrl(study)));
  const first = said.ok ? firstOf(await said.clone().json()) : null;
  const url = first && volumeUrl(study, first.name);
  if (url && !asked.has(url)) begin(url, whole(url)); // else the page was quicker
}

const page = document.getElementById("study");
if (page) beginVolume(page.dataset.study).catch(() => {}); // the page itself says what is wrong
