// The strip of small frames with their masks, the slider over it, and a mark where a line is.

import { colour } from "./stage.js";

const HEIGHT = 56; // CSS pixels

export class Timeline {
  #loading = false;
  #again = false;

  constructor(pictures, go) {
    this.pictures = pictures;
    [this.film, this.time, this.marks] = ["film", "time", "marks"].map((id) => document.getElementById(id));
    this.time.addEventListener("input", () => go(Number(this.time.value)));
    this.marks.addEventListener("click", (event) => {
      if (event.target.dataset.frame) go(Number(event.target.dataset.frame));
    });
    this.go = go;
    new ResizeObserver(() => this.redraw()).observe(this.film);
  }

  update(state, strokes, frame, masks) {
    [this.state, this.masks] = [state, masks];
    this.time.max = state.video.frames - 1;
    this.time.value = frame;
    this.time.setAttribute("aria-valuetext", `Frame ${frame + 1} of ${state.video.frames}`);
    const wanted = new Map(strokes.map((stroke) => [stroke.frame, stroke.object]));
    const key = JSON.stringify([...wanted]);
    if (key !== this.marks.dataset.key) {
      this.marks.dataset.key = key;
      this.marks.replaceChildren(...[...wanted].map(([t, object]) => this.#mark(t, object)));
    }
    const shown = `${state.masks} ${masks}`;
    if (shown !== this.shown) {
      this.shown = shown;
      this.redraw();
    }
  }

  #mark(t, object) {
    const mark = document.createElement("button");
    mark.dataset.frame = t;
    mark.title = `Frame ${t + 1} has lines`;
    mark.setAttribute("aria-label", mark.title);
    mark.style.left = `${(100 * t) / Math.max(1, this.state.video.frames - 1)}%`;
    mark.style.background = object ? colour(object) : "white";
    return mark;
  }

  // Draws what is there, then loads the rest one after the other; a later call begins anew.
  async redraw() {
    if (!this.state || !this.film.clientWidth) return;
    this.#again = true;
    if (this.#loading) return;
    this.#loading = true;
    while (this.#again) {
      this.#again = false;
      for (const cell of this.#cells()) {
        this.#draw(cell);
        const { t } = cell;
        try {
          await this.pictures.load("thumbs", t);
          if (this.masks) await this.pictures.load("masks", t, this.state.masks);
        } catch {
          continue; // the stage says what is wrong with a frame
        }
        this.#draw(cell);
        if (this.#again) break;
      }
    }
    this.#loading = false;
  }

  #cells() {
    const { frames, width, height } = this.state.video;
    const dense = Math.min(2, window.devicePixelRatio || 1);
    const room = [this.film.clientWidth, HEIGHT].map((x) => Math.round(x * dense));
    if (this.film.width !== room[0] || this.film.height !== room[1]) [this.film.width, this.film.height] = room;
    const count = Math.max(1, Math.min(frames, Math.round(room[0] / ((room[1] * width) / height))));
    const wide = room[0] / count;
    return Array.from({ length: count }, (_, n) => ({
      t: Math.round(((n + 0.5) / count) * (frames - 1)),
      x: n * wide,
      wide,
    }));
  }

  #draw({ t, x, wide }) {
    const context = this.film.getContext("2d");
    const high = this.film.height;
    const thumb = this.pictures.peek("thumbs", t);
    if (!thumb) return;
    context.drawImage(thumb, x, 0, wide, high);
    const mask = this.masks && this.pictures.peek("masks", t);
    if (mask) {
      context.globalAlpha = 0.6;
      context.drawImage(mask, x, 0, wide, high);
      context.globalAlpha = 1;
    }
  }
}
