// Which labels lie on each voxel of a volume. A voxel keeps one number, which stands for the set of labels that lie
// there; colours belong to the sets. So a layer that is switched or faded changes a few colours and no voxel.

const MOST_SETS = 65536;

export class LabelSets {
  /** @param size voxels of the volume in RAS order, [x, y, z] */
  constructor(size) {
    this.size = size;
    this.grid = new Uint8Array(size[0] * size[1] * size[2]);
    this.sets = [[]]; // by number: [{key, number}, ...], the lowest first
    this.numbers = new Map([["", 0]]);
    this.boxes = new Map();
  }

  /** Lay the labels of a box over what lies there; only those whose number is `known`. */
  lay(key, { low, size, values }, known) {
    const next = new Map();
    const kept = new Set(known);
    const [nx, ny] = this.size;
    let [grid, set, label, found, from] = [this.grid, -1, -1, 0, 0];
    this.boxes.set(key, { low, size });
    for (let z = low[2]; z < low[2] + size[2]; z += 1) {
      for (let y = low[1]; y < low[1] + size[1]; y += 1) {
        const end = low[0] + nx * (y + ny * z) + size[0];
        for (let at = end - size[0]; at < end; at += 1) {
          const number = values[from++];
          if (!number) continue;
          if (grid[at] !== set || number !== label) {
            [set, label] = [grid[at], number];
            const pair = set * MOST_SETS + number;
            if (!next.has(pair)) next.set(pair, kept.has(number) ? this.#joined(set, key, number) : set);
            found = next.get(pair);
            grid = this.grid; // a wider one, where the sets became many
          }
          grid[at] = found;
        }
      }
    }
  }

  /** Take the labels of a layer away from every voxel. */
  erase(key) {
    const box = this.boxes.get(key);
    if (!box) return;
    this.boxes.delete(key);
    const without = this.sets.map((members) => this.#numbered(members.filter((one) => one.key !== key)));
    const [nx, ny] = this.size;
    const { grid } = this;
    for (let z = box.low[2]; z < box.low[2] + box.size[2]; z += 1) {
      for (let y = box.low[1]; y < box.low[1] + box.size[1]; y += 1) {
        const end = box.low[0] + nx * (y + ny * z) + box.size[0];
        for (let at = end - box.size[0]; at < end; at += 1) grid[at] = without[grid[at]];
      }
    }
  }

  /** The labels on a voxel, [{key, number}, ...]. */
  on([x, y, z]) {
    const inside = [x, y, z].every((one, axis) => one >= 0 && one < this.size[axis]);
    return inside ? this.sets[this.grid[x + this.size[0] * (y + this.size[1] * z)]] : [];
  }

  /**
   * Four bytes for each set: its colour and its opacity, one label over the other (straight alpha, Porter and Duff's
   * "over"). @param colour gives [r, g, b, opacity 0 to 1] of a {key, number}
   */
  colours(colour) {
    const found = new Uint8ClampedArray(4 * this.sets.length);
    for (const [set, members] of this.sets.entries()) {
      const sum = [0, 0, 0];
      let alpha = 0;
      for (const one of members) {
        const [r, g, b, own] = colour(one);
        const both = own + alpha * (1 - own);
        if (!both) continue;
        for (const [channel, value] of [r, g, b].entries()) sum[channel] = (value * own + sum[channel] * alpha * (1 - own)) / both;
        alpha = both;
      }
      found.set([...sum, 255 * alpha], 4 * set);
    }
    return found;
  }

  #joined(set, key, number) {
    return this.#numbered([...this.sets[set], { key, number }]);
  }

  /** The number of a set, a new one where it is new. */
  #numbered(members) {
    const name = members.map((one) => `${one.key}\n${one.number}`).join("\n\n");
    if (!this.numbers.has(name)) {
      if (this.sets.length === MOST_SETS) throw new Error("too many labels lie over each other");
      if (this.sets.length === 256 && this.grid instanceof Uint8Array) this.grid = Uint16Array.from(this.grid);
      this.numbers.set(name, this.sets.push(members) - 1);
    }
    return this.numbers.get(name);
  }
}
