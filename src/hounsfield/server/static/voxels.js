// Passes over all voxels, in plain loops: grey levels of a window, and what lies where another grid has its voxels.
// NiiVue does this on the graphics processor; where there is none, these are twenty times quicker. Results lie in
// RAS order, as its textures do.

/** Levels 0 to 255 of a window [low, high]; `shades` says what is kept for each level. */
export function levelled(image, low, high, shades) {
  const { img, hdr } = image;
  const [nx, ny, nz] = image.dimsRAS.slice(1, 4);
  const [stepX, stepY, stepZ] = image.img2RASstep;
  const start = image.img2RASstart.reduce((sum, one) => sum + one, 0);
  const slope = hdr.scl_slope || 1;
  const scale = 255 / Math.max(high - low, 1e-5);
  const level = (value) => {
    const found = (value * slope + (hdr.scl_inter || 0) - low) * scale;
    return shades[found >= 255 ? 255 : found > 0 ? Math.round(found) : 0];
  };
  const short = img instanceof Int16Array;
  const table = short ? new shades.constructor(65536) : null;
  if (short) for (let value = -32768; value < 32768; value += 1) table[value & 65535] = level(value);
  const found = new shades.constructor(nx * ny * nz);
  let to = 0;
  for (let z = 0; z < nz; z += 1) {
    for (let y = 0; y < ny; y += 1) {
      let from = start + y * stepY + z * stepZ;
      if (short) lookUp(table, img, from, stepX, found, to, nx);
      else for (let x = 0; x < nx; x += 1, from += stepX) found[to + x] = level(img[from]);
      to += nx;
    }
  }
  return found;
}

/** One row of sixteen-bit numbers; a function of its own, which the browser makes quick. */
function lookUp(table, img, from, step, found, to, count) {
  for (let x = 0; x < count; x += 1, from += step) found[to + x] = table[img[from] & 65535];
}

/** The smallest box [low, high) of an image, in its own order, that holds all that is not nought; null if all is. */
export function filled(image) {
  const { img } = image;
  const [nx, ny, nz] = image.hdr.dims.slice(1, 4);
  const low = [nx, ny, nz];
  const high = [0, 0, 0];
  for (let z = 0, row = 0; z < nz; z += 1) {
    for (let y = 0; y < ny; y += 1, row += nx) {
      let first = 0;
      while (first < nx && !img[row + first]) first += 1;
      if (first === nx) continue;
      let last = nx - 1;
      while (!img[row + last]) last -= 1;
      if (first < low[0]) low[0] = first;
      if (last >= high[0]) high[0] = last + 1;
      if (y < low[1]) low[1] = y;
      if (y >= high[1]) high[1] = y + 1;
      if (z < low[2]) low[2] = z;
      high[2] = z + 1;
    }
  }
  return high[2] ? { low, high } : null;
}

/** Rows of the matrix that leads from RAS voxels of `base` to voxels of `image`. */
function across(base, image) {
  const to = inverse(image.hdr.affine.slice(0, 3).map((row) => [...row]));
  const from = [0, 4, 8].map((at) => [...base.matRAS.slice(at, at + 4)]);
  return to.map((row) => [0, 1, 2, 3].map((column) => row[0] * from[0][column] + row[1] * from[1][column] + row[2] * from[2][column] + (column === 3 ? row[3] : 0)));
}

/** The inverse of an affine matrix of three rows. */
function inverse(rows) {
  const [[a, b, c], [d, e, f], [g, h, i]] = rows;
  const det = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g);
  const turned = [[e * i - f * h, c * h - b * i, b * f - c * e], [f * g - d * i, a * i - c * g, c * d - a * f], [d * h - e * g, b * g - a * h, a * e - b * d]];
  return turned.map((row) => {
    const own = row.map((one) => one / det);
    return [...own, -(own[0] * rows[0][3] + own[1] * rows[1][3] + own[2] * rows[2][3])];
  });
}

/** The box of RAS voxels of `base` that a box of voxels of `image` may touch; empty where they lie apart. */
function covering(matrix, size, box) {
  const back = inverse(matrix);
  const [low, high] = [[Infinity, Infinity, Infinity], [-Infinity, -Infinity, -Infinity]];
  for (let corner = 0; corner < 8; corner += 1) {
    const at = [0, 1, 2].map((axis) => (corner & (1 << axis) ? box.high[axis] : box.low[axis]) - 0.5);
    for (let axis = 0; axis < 3; axis += 1) {
      const place = back[axis][0] * at[0] + back[axis][1] * at[1] + back[axis][2] * at[2] + back[axis][3];
      low[axis] = Math.min(low[axis], place);
      high[axis] = Math.max(high[axis], place);
    }
  }
  const near = 1e-3; // of a voxel: what single precision leaves of an edge
  const first = low.map((one) => Math.max(0, Math.ceil(one + near)));
  return { low: first, high: high.map((one, axis) => Math.max(first[axis], Math.min(size[axis], Math.floor(one - near) + 1))) };
}

/** The matrix in whole voxels, where it leads from each voxel to the middle of another; else null. */
function wholeSteps(matrix, size) {
  const whole = matrix.map((row) => row.map(Math.round));
  const off = (row, at) => row.reduce((sum, one, column) => sum + Math.abs(one - whole[at][column]) * (size[column] ?? 1), 0);
  return matrix.every((row, at) => off(row, at) < 0.05) ? whole : null;
}

/** Voxels of a box, where each is some voxel of the other grid. */
function copied(img, [nx, ny], steps, { low, high }, values) {
  const along = (column) => steps[0][column] + nx * (steps[1][column] + ny * steps[2][column]);
  const [stepX, stepY, stepZ, start] = [0, 1, 2, 3].map(along);
  const count = high[0] - low[0];
  let to = 0;
  for (let z = low[2]; z < high[2]; z += 1) {
    for (let y = low[1]; y < high[1]; y += 1) {
      const from = start + low[0] * stepX + y * stepY + z * stepZ;
      copyRow(img, from, stepX, values, to, count);
      to += count;
    }
  }
  return values;
}

function copyRow(img, from, step, values, to, count) {
  if (step === 1) values.set(img.subarray(from, from + count), to);
  else for (let x = 0; x < count; x += 1, from += step) values[to + x] = img[from];
}

/**
 * What lies on the voxels of `base` of the nearest voxels of `image`: {low, size, values}, a box of RAS voxels that
 * holds all of `box`, a part of the image in its own order. Where the image has no voxel there is nought.
 */
export function laidOn(base, image, box) {
  const matrix = across(base, image);
  const { low, high } = covering(matrix, [...base.dimsRAS].slice(1, 4), box);
  const size = high.map((one, axis) => one - low[axis]);
  const values = new image.img.constructor(size[0] * size[1] * size[2]);
  const [nx, ny, nz] = image.hdr.dims.slice(1, 4);
  const steps = wholeSteps(matrix, high);
  if (steps) return { low, size, values: copied(image.img, [nx, ny], steps, { low, high }, values) };
  const [[ux, uy, uz, u0], [vx, vy, vz, v0], [wx, wy, wz, w0]] = matrix;
  let to = 0;
  for (let z = low[2]; z < high[2]; z += 1) {
    for (let y = low[1]; y < high[1]; y += 1) {
      const [u, v, w] = [uy * y + uz * z + u0, vy * y + vz * z + v0, wy * y + wz * z + w0];
      for (let x = low[0]; x < high[0]; x += 1, to += 1) {
        const i = Math.round(ux * x + u);
        const j = Math.round(vx * x + v);
        const k = Math.round(wx * x + w);
        if (i >= 0 && i < nx && j >= 0 && j < ny && k >= 0 && k < nz) values[to] = image.img[i + nx * (j + ny * k)];
      }
    }
  }
  return { low, size, values };
}
