// The viewer: NiiVue behind the few words that the study's page needs. Points are LPS millimetres here;
// NiiVue counts in RAS, so x and y change their sign on the way in and out, and nowhere else.
import { Niivue, NVImage, SLICE_TYPE, SHOW_RENDER, DRAG_MODE, MULTIPLANAR_TYPE } from "./vendor/niivue.js";

import { fillBetween } from "./between.js";

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

const MOST_LAYERS = 8;
const LARGE = 8e6;

/** Blue over yellow to red, as in the reports; clear at the low end of the scale. */
const RAMP = { R: [40, 40, 250, 220], G: [60, 190, 220, 40], B: [190, 200, 60, 30], I: [0, 89, 166, 255] };

const flip = ([x, y, z]) => [-x, -y, z];

export class Viewer {
  /** @param onPlace called with {lps, vox, value, label} whenever the cross moves */
  constructor(canvas, onPlace) {
    this.onPlace = onPlace;
    this.layers = new Map();
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
    this.nv.addColormap("ramp", { ...RAMP, A: [0, 255, 255, 255] });
    this.viewName = "planes";
    this.nv.onLocationChange = (place) => this.#tell(place);
    this.ready = this.nv.attachToCanvas(canvas);
  }

  /** Show a volume in place of all that was shown; without a window [low, high], in one of its own. */
  async open(url, { flat, window }) {
    await this.ready;
    this.nv.setDrawingEnabled(false);
    if (this.nv.drawBitmap) this.nv.closeDrawing();
    this.layers.clear();
    const levels = window ? { cal_min: window[0], cal_max: window[1] } : {};
    this.nv.opts.isOrientationTextVisible = !flat;
    this.nv.opts.crosshairWidth = flat ? 0 : 0.45;
    this.nv.opts.sliceType = flat ? TYPES.axial : TYPES.planes;
    this.nv.opts.multiplanarShowRender = SHOW_RENDER.NEVER;
    await this.nv.loadVolumes([{ url, name: "volume.nii", colormap: "gray", ...levels }]);
    // Where the processor has to draw, a large volume turns slowly: it is drawn when it is asked for.
    const voxels = this.size.reduce((product, one) => product * one, 1);
    this.nv.opts.multiplanarShowRender = voxels <= LARGE ? SHOW_RENDER.ALWAYS : SHOW_RENDER.NEVER;
    this.view(flat ? "axial" : "planes");
  }

  /** Size of the volume as (i, j, k). */
  get size() {
    return this.nv.volumes[0].hdr.dims.slice(1, 4);
  }

  view(name) {
    this.viewName = name;
    this.nv.setSliceType(TYPES[name]);
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
   * Lay a label map over the volume; its segments are {number, label, rgb}. NiiVue knows one opacity per
   * layer, so a few segments become a layer each, over the same voxels; many share one and are on or off.
   * A part has a grid of its own inside the volume's, and says nothing of the voxel under the cross.
   */
  async lay(key, url, segments, part = false) {
    if (this.layers.has(key)) return;
    const image = await NVImage.loadFromUrl({ url, name: "labels.nii.gz", opacity: 1 });
    const groups = segments.length <= MOST_LAYERS ? segments.map((one) => [one]) : [segments];
    const sheets = groups.map((group, number) => ({ group, image: number ? copyOf(image, `${key}-${number}`) : image }));
    this.layers.set(key, { image, sheets, segments, alphas: new Map(segments.map((one) => [one.number, 1])), opacity: 0.5, part });
    this.#colour(key);
    for (const sheet of sheets.slice(0, -1)) this.nv.volumes.push(sheet.image);
    this.nv.addVolume(sheets.at(-1).image);
  }

  /**
   * Lay a map of numbers over the volume, clear at its low end; the scale that its colours span. Without a
   * range [low, high] that is from 0 (or the least value) to the 98th percentile.
   */
  async layMap(key, url, { label, unit, range }) {
    const image = await NVImage.loadFromUrl({ url, name: "map.nii.gz", colormap: "ramp", opacity: 1 });
    const [low, high] = range ?? [Math.min(0, image.global_min), image.robust_max];
    image.cal_min = low;
    image.cal_max = high > low ? high : low + 1;
    this.layers.set(key, { image, sheets: [{ group: [], image }], segments: [], alphas: new Map(), opacity: 0.5, map: { label, unit } });
    this.nv.addVolume(image);
    return { low: image.cal_min, high: image.cal_max };
  }

  lift(key) {
    const layer = this.layers.get(key);
    if (!layer) return;
    this.layers.delete(key);
    const own = new Set(layer.sheets.map((sheet) => sheet.image));
    for (const image of own) this.nv.volumes.splice(this.nv.volumes.indexOf(image), 1);
    this.nv.updateGLVolume();
  }

  /** Opacity of a whole layer, 0 to 1. */
  fade(key, opacity) {
    const layer = this.layers.get(key);
    if (!layer) return;
    layer.opacity = opacity;
    this.#colour(key);
    this.nv.updateGLVolume();
  }

  /** Opacity of one segment of a layer, 0 to 1. */
  fadeSegment(key, number, opacity) {
    const layer = this.layers.get(key);
    if (!layer) return;
    layer.alphas.set(number, opacity);
    this.#colour(key);
    this.nv.updateGLVolume();
  }

  #colour(key) {
    const { sheets, alphas, opacity, map } = this.layers.get(key);
    if (map) return void (sheets[0].image.opacity = opacity);
    for (const { group, image } of sheets) {
      image.setColormapLabel(colours(group, (number) => (alphas.get(number) > 0 ? 255 : 0)));
      image.opacity = opacity * (group.length === 1 ? alphas.get(group[0].number) : 1);
    }
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
    for (const { image, segments, map, part } of this.layers.values()) {
      if (part) continue;
      const number = image.getValue(vox[0], vox[1], vox[2]);
      if (map) {
        labels.push(`${map.label} ${Number.isFinite(number) ? number.toPrecision(3) : "–"}${map.unit === "1" ? "" : ` ${map.unit}`}`);
        continue;
      }
      const found = segments.find((one) => one.number === number);
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

/** A second layer over the same voxels. */
function copyOf(image, id) {
  const made = image.clone();
  made.id = id;
  made.img = image.img;
  return made;
}

function colours(segments, alpha) {
  const map = { R: [0], G: [0], B: [0], A: [0], I: [0], labels: [""] };
  for (const { number, label, rgb } of segments) {
    map.R.push(rgb[0]);
    map.G.push(rgb[1]);
    map.B.push(rgb[2]);
    map.A.push(alpha(number));
    map.I.push(number);
    map.labels.push(label);
  }
  return map;
}

/** 256 colours for the pen. */
function cmapLut(segments) {
  const lut = new Uint8ClampedArray(256 * 4);
  for (const { number, rgb } of segments) lut.set([...rgb, 255], 4 * number);
  return { lut, labels: [], min: 0, max: 255 };
}
