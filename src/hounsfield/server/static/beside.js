// Another result beside the one that is looked at: of the same series, or of an earlier study of the person.
import { viewUrl, volumeUrl } from "./ahead.js";
import { complaint, make } from "./page.js";
import { Viewer } from "./viewer.js";

const [pane, canvas, plate, choice, link] = ["beside-pane", "beside-canvas", "beside-plate", "beside", "beside-link"].map((id) => document.getElementById(id));
const [card, table] = ["beside-card", "beside-table"].map((id) => document.getElementById(id));

/** What one answer measured, by the words for it: millilitres of segments, probabilities of classes. */
export function measured(answer) {
  const found = new Map();
  const labels = new Map(answer.segments.map((one) => [one.number, one.label]));
  const whole = new Set(answer.findings.filter((one) => one.segment_number && !one.component).map((one) => one.segment_number));
  for (const one of answer.findings) {
    const ml = one.measurements.find((m) => m.unit === "ml")?.value;
    if (ml == null || !labels.has(one.segment_number) || (one.component && whole.has(one.segment_number))) continue;
    const name = labels.get(one.segment_number);
    found.set(name, { value: (found.get(name)?.value ?? 0) + ml, unit: "ml" });
  }
  for (const one of answer.class_scores) found.set(one.label, { value: one.probability, unit: "" });
  return found;
}

export class Beside {
  /**
   * @param main the viewer that is looked at
   * @param say tells the person what went wrong
   * @param onChosen called with an answer of the same series that goes beside
   */
  constructor(main, say, onChosen) {
    Object.assign(this, { main, say, onChosen, viewer: null, options: new Map(), shown: null, shift: null, following: false, loaded: false, opened: 0 });
    choice.addEventListener("change", () => this.choose(choice.value));
    link.addEventListener("click", () => this.#link(link.getAttribute("aria-pressed") !== "true"));
  }

  /** Offer what may stand beside a series. */
  offer(about, series, answers, segmentsOf) {
    this.about = { about, series, segmentsOf };
    this.answers = answers;
    this.options.clear();
    const done = answers.filter((one) => one.status === "done");
    for (const answer of done) {
      const newest = answer === done.find((one) => one.model === answer.model); // it is what is looked at
      const when = new Date(answer.at * 1000).toISOString().slice(0, 16).replace("T", " ");
      const own = `/api/v1/jobs/${answer.job}/series/${answer.series}`;
      if (!newest && answer.segments.length && answer.files.includes("nifti")) {
        this.options.set(`job-${answer.job}`, { text: `${answer.package}, job ${answer.job}, ${when}`, answer, labels: `${own}/nifti` });
      }
      for (const one of answer.reviews.filter((said) => said.label_version)) {
        const text = `${answer.package}, job ${answer.job}, version ${one.label_version} by ${one.who}`;
        this.options.set(`job-${answer.job}-v${one.label_version}`, { text, segments: answer.segments, labels: `${own}/labels/${one.label_version}` });
      }
    }
    const earlier = about.priors.map((one) => [`study-${one.study_uid}`, { text: `${one.study_date || "no date"} ${one.modalities} ${one.description}`, study: one.study_uid }]);
    const group = (label, entries) => entries.length && make("optgroup", { label }, ...entries.map(([value, one]) => make("option", { value }, one.text)));
    choice.replaceChildren(make("option", { value: "" }, "Nothing beside"), ...[group("This series", [...this.options]), group("Other studies of this person", earlier)].filter(Boolean));
    for (const [value, one] of earlier) this.options.set(value, one);
    choice.hidden = !this.options.size;
    choice.value = this.shown && this.options.has(this.shown) ? this.shown : "";
    if (this.shown && choice.value === "") this.close();
  }

  /** Put something beside, or nothing. */
  async choose(value) {
    const mine = ++this.opened;
    const option = this.options.get(value);
    if (!option) return this.close();
    this.shown = value;
    pane.hidden = false;
    plate.textContent = "Loading…";
    try {
      const found = option.study ? await this.#ofStudy(option) : { study: this.about.about.study_uid, series: this.about.series, ...option };
      if (mine !== this.opened) return;
      if (option.answer) this.onChosen(option.answer);
      await this.#open(found);
      if (mine !== this.opened) return;
      this.#draw(option.text, found);
    } catch (error) {
      this.say(`This cannot be shown beside (${error.message}).`, true);
      this.close();
    }
  }

  /** The series of another study that is most like ours, with the latest answer on it. */
  async #ofStudy(option) {
    const answer = await fetch(viewUrl(option.study));
    if (!answer.ok) throw new Error(await complaint(answer));
    const about = await answer.json();
    const own = this.about.series;
    const done = (series) => about.answers.find((one) => one.series === series.name && one.status === "done");
    const fitting = about.series.filter((one) => !one.problem && one.modality === own.modality);
    const series = fitting.find((one) => done(one) && one.description === own.description) ?? fitting.find(done) ?? fitting[0];
    if (!series) throw new Error(`it has no ${own.modality} series that can be shown`);
    const models = new Set(this.answers.map((one) => one.model));
    const theirs = about.answers.filter((one) => one.series === series.name && one.status === "done");
    const best = theirs.find((one) => models.has(one.model)) ?? theirs[0];
    const labels = best?.files.includes("nifti") && best.segments.length ? `/api/v1/jobs/${best.job}/series/${best.series}/nifti` : null;
    return { study: option.study, series, answer: best, labels };
  }

  async #open({ study, series, answer, segments, labels }) {
    const first = !this.viewer;
    this.loaded = false;
    this.viewer ??= new Viewer(canvas, ({ lps }) => this.#followed(lps));
    if (first) await this.viewer.ready;
    const { low, high } = this.main.shownWindow;
    const same = series.modality === this.about.series.modality && series.modality === "CT";
    await this.viewer.open(volumeUrl(study, series.name), { flat: series.kind === "projection", window: same ? [low, high] : null });
    this.loaded = true;
    if (labels) await this.viewer.lay("beside", labels, this.about.segmentsOf(answer ?? { segments }));
    this.frame = series.frame === this.about.series.frame && series.frame !== "";
    this.view(this.main.viewName);
    this.shift = null;
    this.#link(this.frame);
  }

  #draw(text, { answer, series }) {
    plate.textContent = `${text}${series.kind === "projection" ? "" : this.frame ? "" : " · another place in space"}`;
    pane.dataset.ready = this.shown;
    link.hidden = series.kind === "projection";
    const ours = this.answers.find((one) => one.status === "done" && answer && one.model === answer.model && one.job !== answer.job);
    card.hidden = !ours || !answer;
    if (card.hidden) return;
    const [now, then] = [measured(ours), measured(answer)];
    const rows = [...new Set([...now.keys(), ...then.keys()])].map((name) => row(name, now.get(name), then.get(name)));
    const body = rows.length ? rows : [make("tr", {}, make("td", { colspan: 4 }, "Neither measured anything."))];
    table.querySelector("tbody").replaceChildren(...body);
    table.querySelector("caption").textContent = `Job ${ours.job} and, beside, job ${answer.job}`;
  }

  close() {
    this.opened += 1;
    this.shown = null;
    this.loaded = false;
    choice.value = "";
    delete pane.dataset.ready;
    for (const one of [pane, link, card]) one.hidden = true;
  }

  view(name) {
    if (this.loaded) this.viewer.view(name);
  }

  window(low, high) {
    if (this.loaded) this.viewer.window(low, high);
  }

  fade(opacity) {
    this.viewer?.fade("beside", opacity);
  }

  /** The cross of the main images moved: the other goes along, at the same distance as when they were linked. */
  follow(lps) {
    if (!this.shown || !this.shift || this.following || !pane.dataset.ready) return;
    this.following = true;
    this.viewer.goTo(lps.map((one, axis) => one + this.shift[axis]));
    this.following = false;
  }

  #followed(lps) {
    if (!this.shift || this.following || !pane.dataset.ready) return;
    this.following = true;
    this.main.goTo(lps.map((one, axis) => one - this.shift[axis]));
    this.following = false;
  }

  /** Let both crosses move together from where they stand; scans of one frame of reference share their millimetres. */
  #link(on) {
    const [here, there] = [this.main.place, this.viewer.place];
    this.shift = !on ? null : this.frame ? [0, 0, 0] : there.map((one, axis) => one - here[axis]);
    link.setAttribute("aria-pressed", String(on));
    if (on && this.frame) this.viewer.goTo(here);
  }
}

function row(name, now, then) {
  const shown = (one) => (one ? `${Number(one.value.toPrecision(3))} ${one.unit}`.trim() : "–");
  const change = now && then && then.value ? `${now.value >= then.value ? "+" : "−"}${Math.abs((100 * (now.value - then.value)) / then.value).toFixed(1)} %` : "–";
  return make("tr", {}, make("th", { scope: "row" }, name), make("td", { class: "n" }, shown(now)), make("td", { class: "n" }, shown(then)), make("td", { class: "n" }, change));
}
