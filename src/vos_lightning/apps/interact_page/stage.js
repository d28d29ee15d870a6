// The frame with its masks and lines, and the pen, which a mouse, a finger or the keys move.
//
// A point is [x, y], shares in 0..1 of width - 1 and height - 1 pixels, as scribble files have them.

const MOST_POINTS = 2000;
const STEP = 0.01; // of the picture, that a key moves the pen
const NEAR = 0.003; // between points of a line

// The data sets' palette: bits of the id, three at a time, set the bits of red, green and blue.
export function colour(id) {
  const rgb = [0, 0, 0];
  for (let bit = 0; bit < 8; bit++) {
    for (let c = 0; c < 3; c++) rgb[c] |= ((id >> (3 * bit + c)) & 1) << (7 - bit);
  }
  return `rgb(${rgb.join(" ")})`;
}

const clamp = (x) => Math.min(1, Math.max(0, x));

export class Stage extends EventTarget {
  opacity = 0.5;
  object = 1;
  #line = null; // {path, since, pointer}
  #pen = null; // where the keys have it
  #size = [1, 1];

  constructor(canvas, box) {
    super();
    [this.canvas, this.box, this.context] = [canvas, box, canvas.getContext("2d")];
    this.outline = document.createElement("canvas");
    new ResizeObserver(() => this.fit(...this.#size)).observe(box);
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#up(event));
    canvas.addEventListener("pointercancel", () => this.cancel());
  }

  // Makes the canvas as large as the box allows for a video of this size.
  fit(width, height) {
    this.#size = [width, height];
    const room = this.box.getBoundingClientRect();
    const scale = Math.min(room.width / width, room.height / height);
    const [w, h] = [Math.max(1, Math.floor(width * scale)), Math.max(1, Math.floor(height * scale))];
    Object.assign(this.canvas.style, { width: `${w}px`, height: `${h}px` });
    const dense = Math.min(2, window.devicePixelRatio || 1);
    [this.canvas.width, this.canvas.height] = [Math.round(w * dense), Math.round(h * dense)];
    this.dispatchEvent(new Event("change"));
  }

  // frame and mask are bitmaps or undefined.
  show(frame, mask, strokes) {
    const { context, canvas } = this;
    const [w, h] = [canvas.width, canvas.height];
    if (frame) context.drawImage(frame, 0, 0, w, h);
    else context.clearRect(0, 0, w, h);
    if (mask) {
      context.imageSmoothingEnabled = false;
      context.globalAlpha = this.opacity;
      context.drawImage(mask, 0, 0, w, h);
      context.globalAlpha = Math.min(1, 2 * this.opacity);
      context.drawImage(this.#rim(mask, w, h), 0, 0);
      context.globalAlpha = 1;
      context.imageSmoothingEnabled = true;
    }
    for (const stroke of strokes) this.#trace(stroke.path, stroke.object, stroke.failed);
    if (this.#line) this.#trace(this.#line.path, this.object);
    if (this.#pen) this.#cross(this.#pen);
  }

  get drawing() {
    return this.#line !== null;
  }

  get penShown() {
    return this.#pen !== null;
  }

  cancel() {
    this.#line = null;
    this.dispatchEvent(new Event("change"));
  }

  // A key of the pen that the keys move; returns whether it was one.
  key(name, far) {
    if (!this.#pen) return false;
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (name in moves) {
      this.#pen = this.#pen.map((x, i) => clamp(x + moves[name][i] * STEP * (far ? 5 : 1)));
      this.#line?.path.push([...this.#pen]);
    } else if (name === "Enter" && this.#line) this.#finish();
    else if (name === "Enter") this.#line = { path: [[...this.#pen]], since: performance.now() };
    else return false;
    this.dispatchEvent(new Event("change"));
    return true;
  }

  togglePen() {
    this.#pen = this.#pen ? null : [0.5, 0.5];
    this.cancel();
  }

  #rim(mask, w, h) {
    const { outline } = this;
    [outline.width, outline.height] = [w, h];
    const context = outline.getContext("2d");
    context.imageSmoothingEnabled = false;
    const wide = Math.max(1, Math.round(w / 700));
    for (const [x, y] of [[-1, 0], [1, 0], [0, -1], [0, 1]]) context.drawImage(mask, x * wide, y * wide, w, h);
    context.globalCompositeOperation = "source-in";
    context.fillStyle = "white";
    context.fillRect(0, 0, w, h);
    context.globalCompositeOperation = "destination-out";
    context.drawImage(mask, 0, 0, w, h);
    return outline;
  }

  #place([x, y]) {
    const [width, height] = this.#size;
    return [
      ((x * (width - 1) + 0.5) / width) * this.canvas.width,
      ((y * (height - 1) + 0.5) / height) * this.canvas.height,
    ];
  }

  #trace(path, object, failed = false) {
    const { context } = this;
    const dense = this.canvas.width / this.canvas.clientWidth;
    const colours = object ? ["white", colour(object)] : ["rgb(0 0 0 / 75%)", "white"];
    context.lineCap = context.lineJoin = "round";
    colours.forEach((style, n) => {
      context.setLineDash(n && (failed || !object) ? [7 * dense, 7 * dense] : []);
      [context.strokeStyle, context.lineWidth] = [style, (n ? 3.5 : 6.5) * dense];
      context.beginPath();
      context.moveTo(...this.#place(path[0]));
      for (const point of path) context.lineTo(...this.#place(point));
      context.stroke();
    });
    context.setLineDash([]);
  }

  #cross(point) {
    const { context } = this;
    const [x, y] = this.#place(point);
    const reach = this.canvas.width / 40;
    for (const [style, width] of [["black", 5], ["white", 2]]) {
      [context.strokeStyle, context.lineWidth] = [style, width];
      context.beginPath();
      context.arc(x, y, reach / 2, 0, 7);
      context.moveTo(x - reach, y);
      context.lineTo(x + reach, y);
      context.moveTo(x, y - reach);
      context.lineTo(x, y + reach);
      context.stroke();
    }
  }

  #point(event) {
    const room = this.canvas.getBoundingClientRect();
    const shares = [(event.clientX - room.left) / room.width, (event.clientY - room.top) / room.height];
    return shares.map((x, i) => clamp((x * this.#size[i] - 0.5) / Math.max(1, this.#size[i] - 1)));
  }

  #down(event) {
    if (!event.isPrimary || event.button !== 0 || this.#line) return;
    event.preventDefault();
    this.canvas.focus({ preventScroll: true, focusVisible: false });
    this.canvas.setPointerCapture(event.pointerId);
    this.#pen = null;
    this.#line = { path: [this.#point(event)], since: performance.now(), pointer: event.pointerId };
    this.dispatchEvent(new Event("change"));
  }

  #move(event) {
    if (this.#line?.pointer !== event.pointerId) return;
    for (const one of event.getCoalescedEvents?.() ?? [event]) {
      const point = this.#point(one);
      const [x, y] = this.#line.path.at(-1);
      if (Math.hypot(point[0] - x, point[1] - y) >= NEAR) this.#line.path.push(point);
    }
    this.dispatchEvent(new Event("change"));
  }

  #up(event) {
    if (this.#line?.pointer === event.pointerId) this.#finish();
  }

  #finish() {
    let { path } = this.#line;
    while (path.length > MOST_POINTS) path = path.filter((_, n) => n % 2 === 0 || n === path.length - 1);
    const seconds = Math.min(3600, (performance.now() - this.#line.since) / 1000);
    path = path.map((point) => point.map((x) => Math.round(x * 1e5) / 1e5));
    this.#line = null;
    this.dispatchEvent(new CustomEvent("line", { detail: { path, seconds } }));
  }
}
