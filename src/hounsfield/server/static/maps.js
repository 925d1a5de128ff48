// Maps of numbers over the images, one at a time, with the scale of their colours.
import { make } from "./page.js";

const bar = document.getElementById("bar");

/** Switches for an answer's maps; a click on the one that is shown takes it away. */
export class Maps {
  constructor(viewer, opacity, say) {
    Object.assign(this, { viewer, opacity, say, shown: null });
  }

  list(answer) {
    const list = make("ul", { class: "maps" });
    for (const one of answer.maps) {
      const key = `${answer.job}/${answer.series}/${one.kind}`;
      const url = `/api/v1/jobs/${answer.job}/series/${answer.series}/${one.kind}`;
      const tick = make("input", { type: "checkbox", id: `map-${key}`, "data-map": key, checked: this.shown === key, onchange: () => this.show(tick.checked ? { ...one, key, url } : null) });
      const words = one.explains ? `Where the network looked for ${one.label}` : `Map of ${one.label}`;
      list.append(make("li", {}, tick, make("label", { for: tick.id }, words), make("a", { href: url, download: true }, "NIfTI")));
    }
    return list;
  }

  async show(map) {
    if (this.shown) this.viewer.lift(this.shown);
    this.shown = null;
    bar.hidden = true;
    if (map) {
      this.shown = map.key;
      try {
        const { low, high } = await this.viewer.layMap(map.key, map.url, { label: map.label, unit: map.unit, range: map.explains ? [0, 1] : null });
        if (this.shown !== map.key) return this.viewer.lift(map.key);
        this.viewer.fade(map.key, Number(this.opacity.value));
        this.#draw(map, low, high);
      } catch (error) {
        this.shown = null;
        this.say(`The map cannot be shown (${error.message}).`, true);
      }
    }
    for (const tick of document.querySelectorAll("[data-map]")) tick.checked = tick.dataset.map === this.shown;
    this.viewer.tell();
  }

  /** Forget what was shown: the volume below it is gone. */
  forget() {
    this.shown = null;
    bar.hidden = true;
  }

  #draw(map, low, high) {
    const number = (one) => String(Number(one.toPrecision(3)));
    const unit = map.unit === "1" ? "" : ` ${map.unit}`;
    bar.querySelector("figcaption").textContent = map.explains ? `${map.label}: share of the strongest place. Not where a lesion is.` : `${map.label}${unit}`;
    bar.querySelector(".low").textContent = number(low);
    bar.querySelector(".high").textContent = `${number(high)}${unit}`;
    bar.hidden = false;
  }
}
