// Brings the parts of the page together: what is shown, buttons and keys.

import { Pictures } from "./pictures.js";
import { Server } from "./server.js";
import { colour, Stage } from "./stage.js";
import { Timeline } from "./timeline.js";

const get = (id) => document.getElementById(id);
const server = new Server();
const pictures = new Pictures(server);
const stage = new Stage(get("picture"), get("stage"));
const timeline = new Timeline(pictures, go);
let [frame, objects, masksShown, playing, busySince] = [0, 1, true, false, 0];
let [loading, broken] = [false, new Map()];

// --- what is shown ----------------------------------------------------------------------------------------

function go(t) {
  const last = (server.state?.video.frames ?? 1) - 1;
  frame = Math.min(last, Math.max(0, t));
  if (stage.drawing) stage.cancel();
  update();
}

function update() {
  const { state, strokes } = server;
  if (!state) return showStatus();
  objects = Math.max(objects, ...strokes.map((stroke) => stroke.object));
  get("name").textContent = state.video.name;
  document.title = `${state.video.name} · vos-interact`;
  get("where").textContent = `${frame + 1} / ${state.video.frames}`;
  get("hint").hidden = strokes.length > 0 || stage.drawing;
  get("undo").disabled = !strokes.length;
  get("save").disabled = saving();
  showObjects();
  showStatus();
  timeline.update(state, strokes, frame, masksShown);
  show();
  load();
}

function show() {
  const { state, strokes } = server;
  if (!state) return;
  const mask = masksShown && pictures.peek("masks", frame);
  stage.show(pictures.peek("frames", frame), mask, strokes.filter((stroke) => stroke.frame === frame));
  get("picture").setAttribute("aria-label", `Frame ${frame + 1} of ${state.video.frames}`);
  get("picture").dataset.shown = `${frame} ${state.masks} ${ready(frame)}`;
}

const ready = (t) => pictures.has("frames", t) && (!masksShown || pictures.has("masks", t, server.state.masks));

// One after the other: the shown frame, then those that come next. Frames passed meanwhile are left out.
async function load() {
  if (loading) return;
  loading = true;
  for (;;) {
    const ahead = [0, 1, -1, ...(playing ? [2, 3, 4] : [])].map((n) => frame + n);
    const next = ahead.find((t) => server.state.video.frames > t && t >= 0 && !ready(t) && !broken.has(t));
    if (next === undefined) break;
    try {
      await pictures.load("frames", next);
      if (masksShown) await pictures.load("masks", next, server.state.masks);
    } catch (error) {
      if (server.lost || error.name !== "Error") break; // asked again with the next state
      broken.set(next, error.message);
      tell("problem", error.message);
    }
    if (next === frame) show();
  }
  loading = false;
}

function showObjects() {
  const group = get("object-group");
  const key = `${objects} ${server.state.objects} ${stage.object}`;
  if (group.dataset.key === key) return;
  group.dataset.key = key;
  const held = group.contains(document.activeElement) && document.activeElement.dataset.object;
  const buttons = Array.from({ length: objects + 1 }, (_, id) => objectButton(id));
  if (objects < server.state.objects) {
    const add = document.createElement("button");
    Object.assign(add, { id: "add", textContent: "Add object", title: "Another object (A)", onclick: addObject });
    buttons.push(add);
  }
  group.replaceChildren(...buttons);
  if (held) group.querySelector(`[data-object="${stage.object}"]`)?.focus();
}

function objectButton(id) {
  const button = document.createElement("button");
  button.dataset.object = id;
  button.setAttribute("aria-pressed", id === stage.object);
  button.setAttribute("aria-keyshortcuts", id);
  const swatch = document.createElement("span");
  swatch.className = id ? "swatch" : "swatch background";
  if (id) swatch.style.background = colour(id);
  const key = document.createElement("kbd");
  key.textContent = id;
  key.setAttribute("aria-hidden", "true");
  button.append(swatch, id ? `Object ${id}` : "Background", key);
  button.onclick = () => choose(id);
  return button;
}

function showStatus() {
  const { state, lost, waiting } = server;
  const status = get("status");
  const pending = waiting.filter(({ kind }) => kind === "strokes").length;
  const kept = pending ? `; ${pending} line${pending > 1 ? "s" : ""} kept here` : "";
  let [kind, text] = ["ready", "Ready"];
  if (lost) [kind, text] = ["lost", `${lost.replace(/\.$/, "")}${kept}; trying again`];
  else if (!state) [kind, text] = ["busy", "Loading"];
  else if (state.thinking || waiting.length) {
    busySince ||= performance.now();
    const seconds = Math.floor((performance.now() - busySince) / 1000);
    [kind, text] = ["busy", `${state.thinking || "Sending"}${seconds ? ` · ${seconds} s` : "…"}`];
  } else if (state.seconds) text = `Ready · ${state.seconds.toFixed(2)} s`;
  if (kind !== "busy") busySince = 0;
  if (status.dataset.kind !== kind) status.dataset.kind = kind;
  if (status.textContent !== text) status.textContent = status.title = text;
}

function tell(kind, text) {
  const note = document.createElement("p");
  note.className = kind;
  note.textContent = text;
  get("notes").append(note);
  setTimeout(() => note.remove(), kind === "problem" ? 12000 : 5000);
  if (get("notes").childElementCount > 3) get("notes").firstElementChild.remove();
}

// --- what is done -----------------------------------------------------------------------------------------

function choose(id) {
  if (id > (server.state?.objects ?? 0)) return tell("problem", `There are ${server.state.objects} objects at most.`);
  objects = Math.max(objects, id);
  stage.object = id;
  update();
}

function addObject() {
  choose(objects + 1);
}

function undo() {
  const last = server.strokes.at(-1);
  server.undo();
  if (last && last.frame !== frame) go(last.frame);
}

const saving = () => server.state?.thinking.startsWith("Saving");

function save() {
  if (!saving()) server.save();
}

function toggleMasks() {
  masksShown = !masksShown;
  get("masks").setAttribute("aria-pressed", masksShown);
  update();
}

function play() {
  playing = !playing;
  get("play").setAttribute("aria-pressed", playing);
  get("play").setAttribute("aria-label", playing ? "Stop" : "Play");
  let shown = performance.now();
  const step = (now) => {
    if (!playing) return;
    if (now - shown >= 1000 / server.state.video.rate - 4) {
      const next = (frame + 1) % server.state.video.frames;
      if (ready(frame) || broken.has(frame)) [shown] = [now, go(next)];
    }
    requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}

function help() {
  if (!get("keys").open) get("keys").showModal();
}

const KEYS = {
  a: addObject, h: toggleMasks, p: () => stage.togglePen(), s: save, u: undo, z: undo,
  " ": play, "?": help, Home: () => go(0), End: () => go(Infinity), Escape: () => stage.cancel(),
};

document.addEventListener("keydown", (event) => {
  const inside = event.target;
  const command = event.ctrlKey || event.metaKey;
  if (get("keys").open || event.altKey || inside.id === "opacity" || (command && !"sz".includes(event.key))) return;
  if ([" ", "Enter"].includes(event.key) && inside.tagName === "BUTTON") return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const steps = { ArrowLeft: -1, ArrowRight: 1 };
  if (stage.key(key, event.shiftKey)) event.preventDefault();
  else if (key in steps) {
    event.preventDefault();
    go(frame + steps[key] * (event.shiftKey ? 10 : 1));
  } else if (/^[0-9]$/.test(key)) choose(Number(key));
  else if (key in KEYS) {
    event.preventDefault();
    if (!event.repeat) KEYS[key]();
  }
});

get("undo").onclick = undo;
get("save").onclick = save;
get("masks").onclick = toggleMasks;
get("play").onclick = play;
get("help").onclick = help;
get("opacity").oninput = (event) => {
  stage.opacity = event.target.value / 100;
  show();
};
for (const part of document.querySelectorAll("header, aside, #play")) {
  part.addEventListener("mousedown", (event) => event.target.id !== "opacity" && event.preventDefault());
}

stage.addEventListener("line", ({ detail }) => {
  if (server.state) server.draw(frame, stage.object, detail.path, detail.seconds);
});
stage.addEventListener("change", () => {
  get("hint").hidden ||= stage.drawing;
  show();
});
server.addEventListener("change", () => {
  const { video } = server.state ?? {};
  if (video && stage.video !== `${video.width}x${video.height}`) {
    stage.video = `${video.width}x${video.height}`;
    stage.fit(video.width, video.height);
  }
  update();
});
server.addEventListener("tell", ({ detail }) => tell(detail.kind, detail.text));
setInterval(showStatus, 1000);
server.start();
