// The viewer: NiiVue behind the few words that the study's page needs. Points are LPS millimetres here;
// NiiVue counts in RAS, so x and y change their sign on the way in and out, and nowhere else.
import { Niivue, NVImage, SLICE_TYPE, SHOW_RENDER, DRAG_MODE, MULTIPLANAR_TYPE } from "./vendor/niivue.js";

import { get } from "./ahead.js";
import { fillBetween } from "./between.js";
import { LabelSets } from "./labels.js";
import { Planes } from "./planes.js";
import { filled, laidOn } from "./voxels.js";

export const VIEWS = {
  planes: "Planes",
  axial: "Axial",
  coronal: "Coronal",
  sagittal: "Sagittal",
  render: "3-D",
};

const TYPES = {
  planes: SLICE_TYPE.MULTIPLANAR,
  axial: SLICE_TYPE.AXIAL,
  coronal: SLICE_TYPE.CORONAL,
  sagittal: SLICE_TYPE.SAGITTAL,
  render: SLICE_TYPE.RENDER,
};

const ACROSS = { sagittal: 0, coronal: 1, axial: 2 }; // drawings lie in RAS order

const LARGE = 8e6;

/** Blue over yellow to red, as in the reports; clear at the low end of the scale. */
const RAMP = [[0, 40, 60, 190], [89, 40, 190, 200], [166, 250, 220, 60], [255, 220, 40, 30]];

const flip = ([x, y, z]) => [-x, -y, z];

/** An image that lies on the server, unpacked by the browser. */
async function fetched(url, options) {
  const answer = await get(url);
  if (!answer.ok) throw new Error(answer.statusText || `the server says ${answer.status}`);
  let bytes = await answer.arrayBuffer();
  const [first, second] = new Uint8Array(bytes, 0, 2);
  if (first === 31 && second === 139) bytes = await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
  return NVImage.loadFromUrl({ url: bytes, name: "image.nii", ...options });
}

export class Viewer {
  /** @param onPlace called with {lps, vox, value, label} whenever the cross moves */
  constructor(canvas, onPlace) {
    this.onPlace = onPlace;
    this.layers = new Map();
    this.resting = new Map(); // layers that were lifted and lie hidden, so that they come back at once
    this.turn = 0;
    this.nv = new Niivue({
      dragAndDropEnabled: false,
      isRadiologicalConvention: true,
      isNearestInterpolation: false,
      showAllOrientationMarkers: true,
      isRuler: false,
      isColorbar: false,
      show3Dcrosshair: true,
      crosshairWidth: 0.45,
      crosshairWidthUnit: "percent",
      fontMinPx: 18,
      fontSizeScaling: 0.5,
      crosshairColor: [0.5, 0.84, 0.9, 0.7],
      backColor: [0, 0, 0, 1],
      fontColor: [1, 0.85, 0.3, 1],
      multiplanarShowRender: SHOW_RENDER.ALWAYS,
      multiplanarLayout: MULTIPLANAR_TYPE.GRID,
      sagittalNoseLeft: true,
      clipPlaneHotKey: "",
      cycleClipPlaneHotKey: "",
      viewModeHotKey: "",
      maxDrawUndoBitmaps: 16,
      logLevel: "error",
      loadingText: "",
      dragMode: DRAG_MODE.windowing,
    });
    this.planes = new Planes(this.nv);
    this.viewName = "planes";
    this.nv.onLocationChange = (place) => this.#tell(place);
    this.ready = this.nv.attachToCanvas(canvas).then(() => this.planes.begin());
  }

  /**
   * Show a volume in place of all that was shown; without a window [low, high], in one of its own. False where
   * another was opened in the meantime.
   */
  async open(url, { flat, window }) {
    const mine = ++this.turn;
    const levels = window ? { cal_min: window[0], cal_max: window[1] } : {};
    const [image] = await Promise.all([fetched(url, { colormap: "gray", ...levels }), this.ready]);
    if (mine !== this.turn) return false;
    const { nv, planes } = this;
    nv.setDrawingEnabled(false);
    if (nv.drawBitmap) nv.closeDrawing();
    this.layers.clear();
    this.resting.clear();
    planes.clear();
    nv.opts.isOrientationTextVisible = !flat;
    nv.opts.crosshairWidth = flat ? 0 : 0.45;
    nv.opts.sliceType = flat ? TYPES.axial : TYPES.planes;
    // Where the processor has to draw, a large volume turns slowly: it is drawn when it is asked for.
    const small = !flat && image.hdr.dims.slice(1, 4).reduce((product, one) => product * one, 1) <= LARGE;
    nv.opts.multiplanarShowRender = small ? SHOW_RENDER.ALWAYS : SHOW_RENDER.NEVER;
    this.small = small;
    this.viewName = flat ? "axial" : "planes";
    planes.setSolid(this.#drawsSolid);
    nv.volumes = [];
    nv.addVolume(image);
    this.labels = planes.holds ? new LabelSets(planes.size) : null;
    return true;
  }

  /** Size of the volume as (i, j, k). */
  get size() {
    return this.nv.volumes[0].hdr.dims.slice(1, 4);
  }

  view(name) {
    this.viewName = name;
    this.planes.setSolid(this.#drawsSolid);
    this.nv.setSliceType(TYPES[name]);
  }

  /** Whether 3-D is among what is shown. */
  get #drawsSolid() {
    return this.viewName === "render" || (this.small && this.viewName === "planes");
  }

  window(low, high) {
    const volume = this.nv.volumes[0];
    volume.cal_min = low;
    volume.cal_max = high;
    this.nv.updateGLVolume();
  }

  /** The window as it is. */
  get shownWindow() {
    const { cal_min: low, cal_max: high } = this.nv.volumes[0];
    return { low, high };
  }

  /** The window that the volume itself suggests: nearly all of its values. */
  get range() {
    const volume = this.nv.volumes[0];
    return { low: volume.robust_min, high: volume.robust_max, least: volume.global_min, most: volume.global_max };
  }

  /**
   * Lay a label map over the volume; its segments are {number, label, rgb}. A part has a grid of its own inside
   * the volume's, and says nothing of the voxel under the cross.
   */
  async lay(key, url, segments, part = false) {
    if (this.layers.has(key) || this.#wake(key)) return;
    const mine = this.turn;
    const image = await fetched(url);
    if (mine !== this.turn || this.layers.has(key)) return;
    this.#mustHold();
    this.layers.set(key, { image, segments, alphas: new Map(segments.map((one) => [one.number, 1])), opacity: 0.5, part });
    const box = filled(image);
    if (box) {
      const laid = laidOn(this.nv.volumes[0], image, box);
      this.labels.lay(key, laid, segments.map((one) => one.number));
      this.planes.setLabels(this.labels, laid);
    }
    this.#colour();
  }

  /**
   * Lay a map of numbers over the volume, clear at its low end, in place of another; the scale that its colours
   * span. Without a range [low, high] that is from 0 (or the least value) to the 98th percentile.
   */
  async layMap(key, url, { label, unit, range }) {
    const mine = this.turn;
    const image = await fetched(url);
    if (mine !== this.turn) throw new Error("another series was opened");
    this.#mustHold();
    const [low, high] = range ?? [Math.min(0, image.global_min), image.robust_max];
    image.cal_min = low;
    image.cal_max = high > low ? high : low + 1;
    const [i, j, k] = image.hdr.dims.slice(1, 4);
    const laid = laidOn(this.nv.volumes[0], image, { low: [0, 0, 0], high: [i, j, k] });
    this.planes.setMap(spread(laid, this.planes.size, image), ramp());
    this.layers.set(key, { image, segments: [], alphas: new Map(), opacity: 0.5, map: { label, unit } });
    this.#colour();
    return { low: image.cal_min, high: image.cal_max };
  }

  #mustHold() {
    if (!this.labels) throw new Error("the image is too wide for this browser to lay anything over it");
  }

  /** Take a layer away; but for a part, its voxels stay where they are, clear, until it is laid again. */
  lift(key) {
    const layer = this.layers.get(key);
    if (!layer) return;
    this.layers.delete(key);
    if (layer.map) this.planes.setMap(null);
    else if (layer.part) {
      const box = this.labels.boxes.get(key);
      this.labels.erase(key);
      if (box) this.planes.setLabels(this.labels, box);
    } else this.resting.set(key, layer);
    this.#colour();
  }

  #wake(key) {
    const layer = this.resting.get(key);
    if (!layer) return false;
    this.resting.delete(key);
    this.layers.set(key, layer);
    this.#colour();
    return true;
  }

  /** Opacity of a whole layer, 0 to 1. */
  fade(key, opacity) {
    const layer = this.layers.get(key);
    if (!layer || layer.opacity === opacity) return; // drawing is what takes time
    layer.opacity = opacity;
    this.#colour();
  }

  /** The same opacity for every layer. */
  fadeAll(opacity) {
    for (const layer of this.layers.values()) layer.opacity = opacity;
    this.#colour();
  }

  /** Opacity of one segment of a layer, 0 to 1. */
  fadeSegment(key, number, opacity) {
    const layer = this.layers.get(key);
    if (!layer) return;
    layer.alphas.set(number, opacity);
    this.#colour();
  }

  /** Give every layer its colours and draw: no voxel is touched. */
  #colour() {
    if (!this.labels) return;
    const colours = new Map();
    for (const [key, { segments, alphas, opacity, map }] of this.layers) {
      if (map) this.planes.fadeMap(opacity);
      for (const { number, rgb } of segments) colours.set(`${key}\n${number}`, [...rgb, opacity * alphas.get(number)]);
    }
    this.planes.colour(this.labels.colours((one) => colours.get(`${one.key}\n${one.number}`) ?? [0, 0, 0, 0]));
    this.nv.drawScene();
  }

  /** Put the cross on an LPS point. */
  goTo(lps) {
    this.nv.scene.crosshairPos = this.nv.mm2frac(flip(lps));
    this.nv.createOnLocationChange();
    this.nv.drawScene();
  }

  /** Where the cross is: LPS mm. */
  get place() {
    return flip([...this.nv.frac2mm(this.nv.scene.crosshairPos)].slice(0, 3));
  }

  step(i, j, k) {
    this.nv.moveCrosshairInVox(i, j, k);
  }

  /** Let a drag measure lengths instead of setting the window. */
  measure(on) {
    this.nv.opts.dragMode = on ? DRAG_MODE.measurement : DRAG_MODE.windowing;
    this.nv.setMouseEventConfig?.(
      on ? { leftButton: { primary: DRAG_MODE.measurement }, rightButton: DRAG_MODE.windowing, centerButton: DRAG_MODE.pan } : undefined,
    );
    if (!on) this.nv.clearMeasurements?.();
    this.nv.drawScene();
  }

  /** Tell where the cross is again. */
  tell() {
    this.nv.createOnLocationChange();
  }

  #tell(place) {
    const vox = [...place.vox].slice(0, 3).map(Math.round);
    const labels = [];
    const laid = new Map(this.labels?.on(vox).map((one) => [one.key, one.number])); // what is drawn there
    for (const [key, { image, segments, map, part }] of this.layers) {
      if (part) continue;
      if (map) {
        const number = image.getValue(vox[0], vox[1], vox[2]);
        labels.push(`${map.label} ${Number.isFinite(number) ? number.toPrecision(3) : "–"}${map.unit === "1" ? "" : ` ${map.unit}`}`);
        continue;
      }
      const found = segments.find((one) => one.number === laid.get(key));
      if (found) labels.push(found.label);
    }
    const value = this.nv.volumes[0]?.getValue(vox[0], vox[1], vox[2]);
    this.onPlace({ lps: flip([...place.mm].slice(0, 3)), vox, value, labels });
  }

  // ---- drawing ----

  /** Begin to draw on a copy of a layer, or on nothing. */
  async draw(key, segments) {
    const nv = this.nv;
    const layer = this.layers.get(key);
    if (layer) nv.loadDrawing(layer.image);
    else nv.createEmptyDrawing();
    this.begun = nv.drawBitmap.slice();
    nv.drawLut = cmapLut(segments);
    nv.setDrawOpacity?.(0.55);
    nv.drawOpacity = 0.55;
    nv.opts.drawingEnabled = true;
    nv.setDrawingEnabled(true);
    nv.refreshDrawing(true);
  }

  pen(value, size, filled) {
    this.nv.opts.penSize = size;
    this.nv.setPenValue(value, filled);
  }

  /** Let the pen rest without ending the drawing. */
  penUp(up) {
    this.nv.setDrawingEnabled(!up);
  }

  undo() {
    this.nv.drawUndo();
  }

  /** Fill the slices between those on which a segment was drawn, in one view; how many voxels that took. */
  between(view, value) {
    const size = [...this.nv.back.dims].slice(1, 4);
    const count = fillBetween(this.nv.drawBitmap, this.begun, size, ACROSS[view], value);
    this.nv.drawAddUndoBitmap();
    this.nv.refreshDrawing(true);
    return count;
  }

  /** The drawing as the bytes of a NIfTI file on the volume's own grid. */
  async drawn() {
    return await this.nv.saveImage({ filename: "", isSaveDrawing: true });
  }

  stopDrawing() {
    this.nv.setDrawingEnabled(false);
    this.nv.closeDrawing();
    this.begun = null;
  }
}

/** Levels of a map on the whole volume: 0 where it is clear, 1 to 255 over its scale. */
function spread({ low, size, values }, [nx, ny, nz], { cal_min: least, cal_max: most, hdr }) {
  const levels = new Uint8Array(nx * ny * nz);
  let from = 0;
  for (let z = low[2]; z < low[2] + size[2]; z += 1) {
    for (let y = low[1]; y < low[1] + size[1]; y += 1) {
      let to = low[0] + nx * (y + ny * z);
      for (let x = 0; x < size[0]; x += 1, to += 1, from += 1) {
        const value = values[from] * (hdr.scl_slope || 1) + (hdr.scl_inter || 0);
        if (value > least) levels[to] = Math.max(1, Math.min(255, Math.round((255 * (value - least)) / (most - least))));
      }
    }
  }
  return levels;
}

/** The 256 colours of a map, four bytes each. */
function ramp() {
  const table = new Uint8ClampedArray(1024);
  for (let level = 1; level < 256; level += 1) {
    const next = RAMP.findIndex(([at]) => at >= level);
    const [[low, ...under], [high, ...over]] = [RAMP[next - 1], RAMP[next]];
    table.set([...under.map((one, at) => one + ((over[at] - one) * (level - low)) / (high - low)), 255], 4 * level);
  }
  return table;
}

/** 256 colours for the pen. */
function cmapLut(segments) {
  const lut = new Uint8ClampedArray(256 * 4);
  for (const { number, rgb } of segments) lut.set([...rgb, 255], 4 * number);
  return { lut, labels: [], min: 0, max: 255 };
}
