// What the page asks of its server, and the lines and undos that wait to be delivered.
//
// They wait in the browser's storage, one entry each, so that neither a reload nor another tab loses one, and
// are sent in order until the server has answered. Each names its stroke, so one that comes twice counts once.

const RETRY = 1000; // ms
const HIDDEN = 2000; // ms between questions of a tab that nobody sees, since a browser has few connections
const PATIENCE = 30000; // ms for an answer
const SHELF = `vos-interact ${location.pathname} `;

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

class Refused extends Error {} // asking again would not help
class Failed extends Error {} // the server says why, and it may get better

export class Server extends EventTarget {
  state = null;
  lost = "";
  waiting = []; // {key, kind: "strokes" or "undo", body}
  #sending = false;
  #again = 0;
  #count = 0;

  start() {
    try {
      const keys = Object.keys(localStorage).filter((key) => key.startsWith(SHELF)).sort();
      this.waiting = keys.map((key) => ({ key, ...JSON.parse(localStorage.getItem(key)) }));
    } catch {
      // without storage they wait in memory
    }
    this.#poll();
  }

  // The strokes as they will be once all is delivered.
  get strokes() {
    let strokes = this.state ? [...this.state.strokes] : [];
    for (const { kind, body } of this.waiting) {
      if (kind === "undo") strokes = strokes.filter((stroke) => stroke.id !== body.id);
      else if (!strokes.some((stroke) => stroke.id === body.id)) strokes.push(body);
    }
    return strokes;
  }

  draw(frame, object, path, seconds) {
    const id = crypto.randomUUID();
    this.#wait("strokes", { id, frame, object, path, seconds });
  }

  undo() {
    const last = this.strokes.at(-1);
    if (last) this.#wait("undo", { id: last.id });
  }

  async save() {
    try {
      this.#take(await this.#ask("save", {}));
    } catch (error) {
      this.#tell("problem", error instanceof TypeError ? "Not saved: the server does not answer." : error.message);
    }
  }

  async picture(kind, t) {
    const answer = await fetch(`${kind}/${t}`, { signal: AbortSignal.timeout(PATIENCE) });
    if (!answer.ok) throw new Refused((await answer.json()).error);
    return answer.blob();
  }

  #wait(kind, body) {
    const key = `${SHELF}${Date.now()} ${String(this.#count++).padStart(6, "0")} ${body.id}`;
    try {
      localStorage.setItem(key, JSON.stringify({ kind, body }));
    } catch {
      // as above
    }
    this.waiting.push({ key, kind, body });
    this.#changed();
    this.#deliver();
  }

  // Whether all is delivered.
  async #deliver() {
    if (this.#sending) return false;
    this.#sending = true;
    try {
      if (this.lost) this.#take(await this.#ask("state"));
      while (this.waiting.length) {
        const { key, kind, body } = this.waiting[0];
        try {
          this.#take(await this.#ask(kind, body));
        } catch (error) {
          if (!(error instanceof Refused)) throw error;
          this.#tell("problem", error.message);
        }
        this.lost = "";
        this.waiting.shift();
        try {
          localStorage.removeItem(key);
        } catch {
          // as above
        }
        this.#changed();
      }
    } catch (error) {
      this.#lose(error);
      clearTimeout(this.#again); // a question for the state may be open for long
      this.#again = setTimeout(() => this.#deliver(), RETRY);
    }
    this.#sending = false;
    return !this.waiting.length;
  }

  async #poll() {
    for (;;) {
      try {
        const after = this.lost || document.hidden || !this.state ? "" : this.state.revision;
        const state = await this.#ask(`state?after=${after}`);
        if (await this.#deliver()) this.lost = "";
        this.#take(state);
      } catch (error) {
        this.#lose(error);
      }
      if (this.lost) await sleep(RETRY);
      else if (document.hidden) await sleep(HIDDEN);
    }
  }

  async #ask(path, body) {
    const options = body && { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
    const answer = await fetch(path, { signal: AbortSignal.timeout(PATIENCE), ...options });
    if (answer.ok) return answer.json();
    const { error } = await answer.json().catch(() => ({ error: "The server failed" }));
    if (answer.status === 403 || answer.status >= 500) throw new Failed(error);
    throw new Refused(error);
  }

  #take(state) {
    const [born, number] = state.revision.split("-");
    const [known, newest] = (this.state?.revision ?? "-").split("-");
    const [before, late] = [this.state, born === known && Number(number) < Number(newest)];
    if (before && born !== known) this.#rename(before, state);
    if (!late) this.state = state;
    if (!late && before && born === known) {
      if (state.problems > before.problems) this.#tell("problem", state.problem);
      if (state.saves > before.saves) this.#tell("note", `Saved in ${state.saved}`);
    } else if (!late && state.problem) this.#tell("problem", state.problem);
    this.#changed();
  }

  // A server that was started again has other ids for the strokes; undos that wait mean the same lines.
  #rename(before, state) {
    const line = ({ frame, object, path }) => JSON.stringify([frame, object, path]);
    const ids = new Map(state.strokes.map((stroke) => [line(stroke), stroke.id]));
    const lines = new Map(before.strokes.map((stroke) => [stroke.id, line(stroke)]));
    for (const { kind, body } of this.waiting) {
      if (kind === "undo") body.id = ids.get(lines.get(body.id)) ?? body.id;
    }
  }

  #lose(error) {
    const known = error instanceof Failed ? error.message : "Connection lost";
    if (this.lost !== known) {
      this.lost = known;
      this.#changed();
    }
  }

  #tell(kind, text) {
    this.dispatchEvent(new CustomEvent("tell", { detail: { kind, text } }));
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
