// What NiiVue draws from, made without a pass of the graphics processor over every voxel: grey levels of the window,
// the number of each voxel's set of labels, the levels of a map. Colours and opacities are small tables beside them.
// The planes read these directly; 3-D has textures of its own, made when it is shown.
import { levelled } from "./voxels.js";

const [BASE, OVERLAY, SETS, COLOURS, MAP, RAMP] = [0, 2, 11, 12, 13, 14]; // units; NiiVue has 0 to 10

/** A plane: grey, then what is being drawn, then the map, then the labels of this very slice, smooth within it. */
const SHADER = `#version 300 es
precision highp int;
precision highp float;
uniform highp sampler3D volume;
uniform highp sampler3D drawing;
uniform highp sampler2D colormap;
uniform highp usampler3D sets;
uniform highp sampler2D colours;
uniform highp sampler3D map;
uniform highp sampler2D ramp;
uniform float mapOpacity;
uniform int axCorSag;
uniform float opacity;
uniform float drawOpacity;
in vec3 texPos;
out vec4 color;

vec4 colourOf(uint set) {
  vec4 found = texelFetch(colours, ivec2(int(set & 255u), int(set >> 8u)), 0);
  return vec4(found.rgb * found.a, found.a);
}

vec4 labels() {
  ivec3 size = textureSize(sets, 0);
  vec3 place = texPos * vec3(size);
  vec3 part = fract(place - 0.5);
  ivec3 first = ivec3(floor(place - 0.5));
  ivec3 across = axCorSag == 2 ? ivec3(0, 1, 0) : ivec3(1, 0, 0);
  ivec3 up = axCorSag == 0 ? ivec3(0, 1, 0) : ivec3(0, 0, 1);
  ivec3 through = ivec3(1) - across - up;
  first = first * (across + up) + ivec3(floor(place)) * through;
  ivec3 last = size - 1;
  uint a = texelFetch(sets, clamp(first, ivec3(0), last), 0).r;
  uint b = texelFetch(sets, clamp(first + across, ivec3(0), last), 0).r;
  uint c = texelFetch(sets, clamp(first + up, ivec3(0), last), 0).r;
  uint d = texelFetch(sets, clamp(first + across + up, ivec3(0), last), 0).r;
  if (a == b && a == c && a == d) return a == 0u ? vec4(0.0) : colourOf(a);
  float x = dot(part, vec3(across));
  return mix(mix(colourOf(a), colourOf(b), x), mix(colourOf(c), colourOf(d), x), dot(part, vec3(up)));
}

void main() {
  vec3 seen = texture(volume, texPos).rrr;
  float pen = texture(drawing, texPos).r;
  if (pen > 0.0) {
    float rows = float(textureSize(colormap, 0).y);
    vec4 ink = texture(colormap, vec2((pen * 255.0 + 0.5) / 256.0, (rows - 0.5) / rows));
    seen = mix(seen, ink.rgb, ink.a * drawOpacity);
  }
  if (mapOpacity > 0.0) {
    vec4 heat = texelFetch(ramp, ivec2(int(texture(map, texPos).r * 255.0 + 0.5), 0), 0);
    seen = mix(seen, heat.rgb, heat.a * mapOpacity);
  }
  vec4 laid = labels();
  color = vec4(seen * (1.0 - laid.a) + laid.rgb, opacity);
}`;

const GREYS = Uint8Array.from({ length: 256 }, (_, level) => level);
const SEEN_THROUGH = Uint16Array.from({ length: 256 }, (_, level) => level | ((level >> 1) << 8)); // as NiiVue's own grey

export class Planes {
  constructor(nv) {
    this.nv = nv;
    this.stock = nv.refreshLayers.bind(nv);
    nv.refreshLayers = (item, layer) => this.#refresh(item, layer);
  }

  /** Make the shader, once there is a context. */
  begin() {
    const { nv, gl } = this;
    nv.setCustomSliceShader(SHADER);
    this.shader = nv.customSliceShader;
    this.shader.use(gl);
    for (const [name, unit] of Object.entries({ sets: SETS, colours: COLOURS, map: MAP, ramp: RAMP })) gl.uniform1i(this.shader.uniforms[name], unit);
    this.textures = new Map();
    this.clear();
  }

  get gl() {
    return this.nv.gl;
  }

  /** Forget every layer. */
  clear() {
    this.item = null;
    this.solid = false;
    this.labels = null;
    this.map = null;
    this.table = new Uint8ClampedArray(4);
    this.#volume(SETS, this.gl.R8UI, [1, 1, 1], this.gl.RED_INTEGER, new Uint8Array(1));
    this.#volume(MAP, this.gl.R8, [1, 1, 1], this.gl.RED, new Uint8Array(1));
    this.colour(this.table);
    this.fadeMap(0);
  }

  /** Whether this volume is drawn from these textures, so that layers can lie over it. */
  get holds() {
    return this.item !== null && !this.nv.opts.is2DSliceShader;
  }

  /** Voxels in RAS order. */
  get size() {
    return [...this.item.dimsRAS].slice(1, 4);
  }

  /** The numbers of sets have changed; in the box {low, size}, where one is given. */
  setLabels(labels, box) {
    const { gl } = this;
    const wide = labels.grid instanceof Uint16Array;
    const type = wide ? gl.UNSIGNED_SHORT : gl.UNSIGNED_BYTE;
    const same = this.labels === labels && this.wide === wide;
    Object.assign(this, { labels, wide });
    if (same && box) this.#part(SETS, labels.size, box, gl.RED_INTEGER, type, labels.grid);
    else this.#volume(SETS, wide ? gl.R16UI : gl.R8UI, labels.size, gl.RED_INTEGER, labels.grid);
  }

  /** Colours and opacities of the sets (four bytes each). */
  colour(table) {
    const { gl } = this;
    this.table = table;
    const rows = Math.ceil(table.length / 1024);
    const whole = new Uint8Array(1024 * rows);
    whole.set(table);
    this.#plane(COLOURS, 256, rows, whole);
    this.#mix();
  }

  /** Levels of a map, 0 where it is clear, and 256 colours; null takes the map away. */
  setMap(levels, ramp) {
    const { gl } = this;
    this.map = levels && { levels, ramp };
    this.#volume(MAP, gl.R8, levels ? this.size : [1, 1, 1], gl.RED, levels ?? new Uint8Array(1));
    if (levels) this.#plane(RAMP, 256, 1, ramp);
    else this.fadeMap(0);
  }

  fadeMap(opacity) {
    this.mapOpacity = opacity;
    this.shader.use(this.gl);
    this.gl.uniform1f(this.shader.uniforms.mapOpacity, opacity);
    this.#mix();
  }

  /** Whether 3-D is shown, which has textures of its own. */
  setSolid(on) {
    if (this.solid === on) return;
    this.solid = on;
    if (!this.holds) return;
    this.#paint();
    this.#mix();
  }

  #refresh(item, layer) {
    const { nv } = this;
    if (layer > 0) throw new Error("layers lie in planes.js");
    const most = nv.uiData.max3D;
    if (item.dimsRAS.some((one, axis) => axis > 0 && one > most)) {
      nv.customSliceShader = null; // wider than a volume's texture may be: one flat image, by NiiVue itself
      this.item = null;
      return this.stock(item, layer);
    }
    nv.customSliceShader = this.shader;
    if (this.item !== item) {
      this.#settle(item);
      this.item = item;
    }
    this.#paint();
  }

  /** Let NiiVue learn the geometry of a volume, without its passes over all voxels. */
  #settle(item) {
    const { nv, gl } = this;
    const nothing = () => null;
    const silenced = ["drawArrays", "texStorage3D", "texSubImage3D", "framebufferTextureLayer", "texParameteri"];
    for (const name of silenced) gl[name] = nothing;
    gl.checkFramebufferStatus = () => gl.FRAMEBUFFER_COMPLETE;
    nv.rgbaTex = nothing;
    try {
      this.stock(item, 0);
    } finally {
      for (const name of [...silenced, "checkFramebufferStatus"]) delete gl[name];
      delete nv.rgbaTex;
    }
  }

  /** Grey levels of the window; for 3-D with their opacity. */
  #paint() {
    const { nv, gl, item } = this;
    const levels = levelled(item, item.cal_min, item.cal_max, this.solid ? SEEN_THROUGH : GREYS);
    const [inner, format] = this.solid ? [gl.LUMINANCE_ALPHA, gl.LUMINANCE_ALPHA] : [gl.R8, gl.RED];
    nv.volumeTexture = this.#volume(BASE, inner, this.size, format, new Uint8Array(levels.buffer), gl.LINEAR);
  }

  /** For 3-D: map and labels as the colours that they have. */
  #mix() {
    const { nv, gl } = this;
    const shown = Boolean(this.solid && this.item && (this.labels || this.map));
    if (shown) nv.overlayTexture = this.#volume(OVERLAY, gl.RGBA8, this.size, gl.RGBA, this.#mixed(), gl.LINEAR);
    for (const shader of [nv.renderShader, nv.pickingImageShader]) {
      shader.use(gl);
      gl.uniform1f(shader.uniforms.overlays, shown ? 1 : 0);
    }
  }

  #mixed() {
    const { labels, map, table, mapOpacity } = this;
    const laid = new Uint32Array(table.buffer, table.byteOffset, table.length / 4);
    const heat = map && Uint8ClampedArray.from(map.ramp, (value, at) => (at % 4 === 3 ? value * mapOpacity : value));
    const under = heat && new Uint32Array(heat.buffer);
    const found = new Uint32Array(this.size.reduce((product, one) => product * one, 1));
    for (let at = 0; at < found.length; at += 1) {
      const over = labels ? labels.grid[at] : 0;
      found[at] = table[4 * over + 3] ? laid[over] : under ? under[map.levels[at]] : 0;
    }
    return new Uint8Array(found.buffer);
  }

  #texture(unit, target, filter) {
    const { gl } = this;
    gl.deleteTexture(this.textures.get(unit) ?? null);
    const made = gl.createTexture();
    this.textures.set(unit, made);
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.bindTexture(target, made);
    gl.texParameteri(target, gl.TEXTURE_MIN_FILTER, filter);
    gl.texParameteri(target, gl.TEXTURE_MAG_FILTER, filter);
    for (const wrap of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T, gl.TEXTURE_WRAP_R]) gl.texParameteri(target, wrap, gl.CLAMP_TO_EDGE);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    return made;
  }

  #volume(unit, inner, [nx, ny, nz], format, values, filter = this.gl.NEAREST) {
    const { gl } = this;
    const type = values instanceof Uint16Array ? gl.UNSIGNED_SHORT : gl.UNSIGNED_BYTE;
    const made = this.#texture(unit, gl.TEXTURE_3D, filter);
    gl.texImage3D(gl.TEXTURE_3D, 0, inner, nx, ny, nz, 0, format, type, values);
    return made;
  }

  #plane(unit, width, height, values) {
    const { gl } = this;
    this.#texture(unit, gl.TEXTURE_2D, gl.NEAREST);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, width, height, 0, gl.RGBA, gl.UNSIGNED_BYTE, values);
  }

  /** A box of a volume's texture, taken from the whole volume. */
  #part(unit, [nx, ny], { low, size }, format, type, whole) {
    const { gl } = this;
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.bindTexture(gl.TEXTURE_3D, this.textures.get(unit));
    const places = { UNPACK_ALIGNMENT: 1, UNPACK_ROW_LENGTH: nx, UNPACK_IMAGE_HEIGHT: ny, UNPACK_SKIP_PIXELS: low[0], UNPACK_SKIP_ROWS: low[1], UNPACK_SKIP_IMAGES: low[2] };
    for (const [name, value] of Object.entries(places)) gl.pixelStorei(gl[name], value);
    if (size.every((one) => one > 0)) gl.texSubImage3D(gl.TEXTURE_3D, 0, ...low, ...size, format, type, whole);
    for (const name of Object.keys(places).slice(1)) gl.pixelStorei(gl[name], 0);
  }
}
