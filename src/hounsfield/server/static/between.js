// Shapes between drawn slices: signed distances to the two outlines, blended (Raya and Udupa 1990), about a
// centre that moves in a straight line from one outline's to the other's.

const FAR = 1e12;

/**
 * Fill the slices between those on which a person drew one segment; only voxels without a label change.
 *
 * @param bitmap labels, i fastest, then j, k; changed in place
 * @param begun the labels before the person drew
 * @param size [i, j, k]
 * @param axis across the slices: 0, 1 or 2
 * @param value the segment
 * @returns how many voxels were filled
 */
export function fillBetween(bitmap, begun, size, axis, value) {
  const stride = [1, size[0], size[0] * size[1]];
  const [u, v] = [0, 1, 2].filter((one) => one !== axis);
  const drawn = slices(bitmap, begun, size, axis, value);
  let count = 0;
  for (let n = 1; n < drawn.length; n += 1) {
    const [below, above] = [drawn[n - 1], drawn[n]];
    for (let s = below.at + 1; s < above.at; s += 1) {
      const share = (s - below.at) / (above.at - below.at);
      count += between(below, above, share, (x, y) => {
        if (x < 0 || y < 0 || x >= size[u] || y >= size[v]) return false;
        const place = x * stride[u] + y * stride[v] + s * stride[axis];
        if (bitmap[place]) return false;
        bitmap[place] = value;
        return true;
      });
    }
  }
  return count;
}

/** The slices that were drawn on, in order: where, the box [u0, v0, u1, v1] of what was drawn, its mask. */
function slices(bitmap, begun, size, axis, value) {
  const [u, v] = [0, 1, 2].filter((one) => one !== axis);
  const found = new Map();
  let place = 0;
  const at = [0, 0, 0];
  for (at[2] = 0; at[2] < size[2]; at[2] += 1)
    for (at[1] = 0; at[1] < size[1]; at[1] += 1)
      for (at[0] = 0; at[0] < size[0]; at[0] += 1, place += 1) {
        if (bitmap[place] !== value || begun[place] === value) continue;
        if (!found.has(at[axis])) found.set(at[axis], { at: at[axis], points: [] });
        found.get(at[axis]).points.push([at[u], at[v]]);
      }
  return [...found.values()].sort((one, other) => one.at - other.at).map(shape);
}

function shape({ at, points }) {
  const us = points.map((one) => one[0]), vs = points.map((one) => one[1]);
  const box = [least(us), least(vs), most(us), most(vs)];
  const centre = [us.reduce((a, b) => a + b, 0) / us.length, vs.reduce((a, b) => a + b, 0) / vs.length];
  const [width, height] = [box[2] - box[0] + 1, box[3] - box[1] + 1];
  const margin = Math.max(width, height);
  const [w, h] = [width + 2 * margin, height + 2 * margin];
  const mask = new Uint8Array(w * h);
  for (const [x, y] of points) mask[x - box[0] + margin + w * (y - box[1] + margin)] = 1;
  return { at, box, centre, low: [box[0] - margin, box[1] - margin], w, h, depth: depths(mask, w, h) };
}

const least = (values) => values.reduce((a, b) => Math.min(a, b));
const most = (values) => values.reduce((a, b) => Math.max(a, b));

/** Signed distance in voxels to the edge of a mask: positive inside. */
function depths(mask, w, h) {
  const inside = squared(mask, w, h, 0), outside = squared(mask, w, h, 1);
  return Float32Array.from(mask, (one, n) => (one ? Math.sqrt(inside[n]) - 0.5 : 0.5 - Math.sqrt(outside[n])));
}

/** Squared distance to the nearest pixel of a value (Felzenszwalb and Huttenlocher 2012). */
function squared(mask, w, h, value) {
  const found = Float64Array.from(mask, (one) => (one === value ? 0 : FAR));
  for (let y = 0; y < h; y += 1) line(found, y * w, 1, w);
  for (let x = 0; x < w; x += 1) line(found, x, w, h);
  return found;
}

function line(values, start, step, count) {
  const f = Float64Array.from({ length: count }, (_, n) => values[start + n * step]);
  const hull = [0], cuts = [-Infinity, Infinity];
  for (let q = 1; q < count; q += 1) {
    let cut;
    for (;;) {
      const p = hull.at(-1);
      cut = (f[q] + q * q - f[p] - p * p) / (2 * q - 2 * p);
      if (cut > cuts[hull.length - 1]) break;
      hull.pop();
    }
    hull.push(q);
    cuts.length = hull.length - 1;
    cuts.push(cut, Infinity);
  }
  for (let q = 0, n = 0; q < count; q += 1) {
    while (cuts[n + 1] < q) n += 1;
    values[start + q * step] = (q - hull[n]) ** 2 + f[hull[n]];
  }
}

function depthAt(one, x, y) {
  const column = Math.round(x - one.low[0]), row = Math.round(y - one.low[1]);
  return column < 0 || row < 0 || column >= one.w || row >= one.h ? -FAR : one.depth[column + one.w * row];
}

/** Mark the pixels of the shape at a share of the way; how many the marker took. */
function between(below, above, share, mark) {
  const centre = [0, 1].map((n) => (1 - share) * below.centre[n] + share * above.centre[n]);
  const reach = Math.max(below.w, below.h, above.w, above.h);
  let count = 0;
  for (let y = Math.floor(centre[1] - reach); y <= centre[1] + reach; y += 1)
    for (let x = Math.floor(centre[0] - reach); x <= centre[0] + reach; x += 1) {
      const [dx, dy] = [x - centre[0], y - centre[1]];
      const one = depthAt(below, below.centre[0] + dx, below.centre[1] + dy);
      const other = depthAt(above, above.centre[0] + dx, above.centre[1] + dy);
      if ((1 - share) * one + share * other >= 0 && mark(x, y)) count += 1;
    }
  return count;
}
