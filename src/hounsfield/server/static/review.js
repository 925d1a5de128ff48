// Judging an answer: accept, reject, or correct it by drawing.

export class Review {
  constructor(parts) {
    Object.assign(this, parts);
    this.began = performance.now();
    this.box = this.make("div", { class: "verdicts" });
    this.draw();
  }

  /** Whether a person is drawing, or has typed something. */
  get busy() {
    return Boolean(this.pen && !this.pen.hidden) || Boolean(this.reason?.value.trim());
  }

  get mayReview() {
    return ["reviewer", "admin"].includes(this.root.dataset.role);
  }

  draw() {
    const { make, answer } = this;
    const said = answer.reviews.map((one) => make("p", { class: "said" },
      make("span", { class: `verdict ${one.verdict}` }, one.verdict), " ", make("bdi", {}, one.who),
      `, ${new Date(one.at * 1000).toISOString().slice(0, 16).replace("T", " ")}, ${Math.round(one.seconds)} s${one.label_version ? `, version ${one.label_version}` : ""}`,
      one.reason && make("br"), one.reason && make("bdi", {}, one.reason),
      one.label_version > 0 && this.versionSwitch(one.label_version),
      one.label_version > 0 && make("a", { class: "button", href: `${this.versionUrl(one.label_version)}/seg`, download: true }, `SEG of version ${one.label_version}`)));
    this.box.replaceChildren(...said);
    if (!this.mayReview) return;
    this.reason = make("textarea", { "aria-label": "Reason", placeholder: "Why (needed to reject or correct)", maxlength: 1000 });
    const row = make("div", { class: "row" },
      make("button", { type: "button", onclick: () => this.judge("accepted") }, "Accept"),
      make("button", { type: "button", onclick: () => this.judge("rejected") }, "Reject"));
    if (answer.segments.length) row.append(make("button", { type: "button", onclick: () => this.correct() }, "Correct"));
    this.pen = make("div", { class: "pen", hidden: true });
    this.box.append(row, this.pen, this.reason);
  }

  /** A switch that lays a corrected version over the images, in place of the model's own labels. */
  versionSwitch(version) {
    const key = `${this.keyOf(this.answer)}/v${version}`;
    const on = this.viewer.layers.has(key);
    return this.make("label", { class: "slide" }, this.make("input", { type: "checkbox", ...(on ? { checked: true } : {}), onchange: async (event) => {
      const show = event.target.checked;
      if (show) await this.viewer.lay(key, this.versionUrl(version), this.segmentsOf(this.answer));
      else this.viewer.lift(key);
      this.viewer.fade(key, Number(this.opacity.value));
      this.viewer.fade(this.keyOf(this.answer), show ? 0 : Number(this.opacity.value));
      this.viewer.tell();
    } }), `show version ${version}`);
  }

  versionUrl(version) {
    return `/api/v1/jobs/${this.answer.job}/series/${this.answer.series}/labels/${version}`;
  }

  get seconds() {
    return Math.min(86400, (performance.now() - this.began) / 1000);
  }

  async judge(verdict) {
    const { answer } = this;
    const body = { verdict, reason: this.reason.value, seconds: this.seconds };
    if (await this.post(`/api/v1/jobs/${answer.job}/series/${answer.series}/review`, body)) {
      this.say(`Noted: ${verdict}`);
      this.reason.value = "";
      await this.reload();
    }
  }

  async correct() {
    const { make, viewer, answer } = this;
    this.began = performance.now();
    const segments = this.segmentsOf(answer);
    const version = Math.max(0, ...answer.reviews.map((one) => one.label_version));
    const url = version ? this.versionUrl(version) : `/api/v1/jobs/${answer.job}/series/${answer.series}/nifti`;
    const own = this.keyOf(answer);
    const key = version ? `${own}/v${version}` : own;
    await viewer.lay(key, url, segments);
    await viewer.draw(key, segments); // on from the latest version, where there is one
    viewer.fade(key, 0);
    viewer.fade(own, 0);
    const state = { tool: "brush", size: 3, value: segments[0].number };
    const apply = () => {
      viewer.penUp(state.tool === "rest");
      const value = state.tool === "eraser" ? 0 : state.value;
      if (state.tool !== "rest") viewer.pen(value, state.size, state.tool === "fill");
      for (const one of tools.children) one.setAttribute("aria-pressed", String(one.dataset.tool === state.tool));
    };
    const tool = (name, text) => make("button", { type: "button", "data-tool": name, onclick: () => ((state.tool = name), apply()) }, text);
    const tools = make("div", { class: "row", role: "group", "aria-label": "Pen" }, tool("brush", "Brush"), tool("fill", "Outline and fill"), tool("eraser", "Eraser"), tool("rest", "Move"));
    const choice = make("select", { "aria-label": "Segment", onchange: (event) => ((state.value = Number(event.target.value)), apply()) },
      ...segments.map((one) => make("option", { value: one.number }, one.label)));
    const size = make("input", { type: "range", min: 1, max: 15, step: 2, value: 3, "aria-label": "Size of the pen", oninput: (event) => ((state.size = Number(event.target.value)), apply()) });
    this.pen.replaceChildren(tools,
      make("div", { class: "row" }, choice, make("label", { class: "slide" }, "Size", size)),
      make("div", { class: "row" }, make("button", { type: "button", onclick: () => viewer.undo() }, "Undo"),
        ...["axial", "coronal", "sagittal"].map((view) => make("button", { type: "button", title: `Fill the ${view} slices between those that were drawn`, onclick: () => this.between(view, state.value) }, `Between ${view}`))),
      make("div", { class: "row" }, make("button", { type: "button", class: "primary", onclick: () => this.save() }, "Save as a new version"),
        make("button", { type: "button", onclick: () => this.leave() }, "Leave without saving")));
    this.pen.hidden = false;
    apply();
  }

  between(view, value) {
    const count = this.viewer.between(view, value);
    this.say(count ? `${count} voxels filled` : `Draw this segment on two ${view} slices first.`, !count);
  }

  async save() {
    const { answer, viewer } = this;
    if (!this.reason.value.trim()) {
      this.say("Say why in a few words.", true);
      return this.reason.focus();
    }
    const bytes = await viewer.drawn();
    const query = new URLSearchParams({ reason: this.reason.value, seconds: this.seconds.toFixed(1) });
    const target = `/api/v1/jobs/${answer.job}/series/${answer.series}/labels?${query}`;
    const said = await fetch(target, { method: "POST", headers: { ...this.proof(), "Content-Type": "application/octet-stream" }, body: bytes });
    if (!said.ok) return this.say(await this.complaint(said), true);
    this.say(`Saved as version ${(await said.json()).version}`);
    this.reason.value = "";
    this.leave();
    await this.reload();
  }

  leave() {
    this.viewer.stopDrawing();
    this.viewer.fade(this.keyOf(this.answer), Number(this.opacity.value));
    this.pen.hidden = true;
  }
}
