// Frames and masks as bitmaps, fetched when they are shown and dropped when they take too much memory.

const MOST = 96 * 2 ** 20; // bytes of bitmaps

export class Pictures {
  #held = new Map(); // "frames/3" -> {image, version}, the one used longest ago first
  #coming = new Map();
  #bytes = 0;

  constructor(server) {
    this.server = server;
  }

  // What is there, if need be of another version.
  peek(kind, t) {
    return this.#held.get(`${kind}/${t}`)?.image;
  }

  has(kind, t, version = "") {
    return this.#held.get(`${kind}/${t}`)?.version === version;
  }

  async load(kind, t, version = "") {
    const key = `${kind}/${t}`;
    const held = this.#held.get(key);
    if (held?.version === version) {
      this.#held.delete(key);
      this.#held.set(key, held);
      return;
    }
    const asked = `${key} ${version}`;
    if (!this.#coming.has(asked)) {
      this.#coming.set(asked, this.#fetch(kind, t, version).finally(() => this.#coming.delete(asked)));
    }
    await this.#coming.get(asked);
  }

  async #fetch(kind, t, version) {
    const image = await createImageBitmap(await this.server.picture(kind, t));
    this.#drop(`${kind}/${t}`);
    this.#held.set(`${kind}/${t}`, { image, version });
    this.#bytes += 4 * image.width * image.height;
    for (const key of this.#held.keys()) {
      if (this.#bytes <= MOST || this.#held.size <= 4) break;
      this.#drop(key);
    }
  }

  #drop(key) {
    const held = this.#held.get(key);
    if (!held) return;
    this.#held.delete(key);
    this.#bytes -= 4 * held.image.width * held.image.height;
    held.image.close();
  }
}
