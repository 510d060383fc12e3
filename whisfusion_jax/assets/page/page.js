// Records or takes a file, shows how its text comes about, and has it written anew around an edited word.

const RATE = 16000;
const at = (id) => document.getElementById(id);
const canvas = at("canvas"), pass = at("pass"), player = at("player");

let file = null;       // what was given: a Blob
let samples = null;    // Float32Array at 16 kHz, or null where this browser can't decode it
let segments = [];     // as the server writes them, words with `probability`, `fixed_at`, `start`, `end`
let writesOn = false;  // whether this server writes on from words that are known
let playing = 0;

function say(text, alarm = false) {
  at("say").textContent = text;
  at("say").classList.toggle("alarm", alarm);
}

// The server

function key() {
  return at("key").value || sessionStorage.getItem("key") || "";
}

async function ask(path, options = {}) {
  const headers = key() ? { Authorization: `Bearer ${key()}` } : {};
  const response = await fetch(path, { ...options, headers });
  if (response.status === 401) at("keyed").hidden = false;
  if (!response.ok) {
    const found = await response.json().catch(() => ({}));
    throw new Error(found.error?.message ?? `the server answers ${response.status}`);
  }
  if (key()) sessionStorage.setItem("key", key());
  return response.json();
}

async function transcribe(blob, known = []) {
  const form = new FormData();
  form.append("file", blob, "recording");
  form.append("model", "whisfusion");
  form.append("response_format", "detailed_json");
  for (const each of known) form.append("fix[]", each);
  return ask("v1/audio/transcriptions", { method: "POST", body: form });
}

async function connect() {
  while (true) {
    const response = await fetch("ready").catch(() => null);
    if (response?.ok) break;
    at("model").textContent = response ? "starting: programs are being compiled" : "no server";
    await new Promise((wake) => setTimeout(wake, 1000));
  }
  try {
    const [model] = (await ask("v1/models")).data;
    writesOn = model.writes_on;
    at("model").textContent = `${model.id}, ${model.decoder}`;
  } catch (error) {
    at("model").textContent = error.message;
  }
}

// Sound

async function decoded(blob) {
  const context = new OfflineAudioContext(1, 1, RATE);
  const buffer = await context.decodeAudioData(await blob.arrayBuffer());
  const mixed = new Float32Array(buffer.length);
  for (let channel = 0; channel < buffer.numberOfChannels; channel++) {
    const own = buffer.getChannelData(channel);
    for (let i = 0; i < own.length; i++) mixed[i] += own[i] / buffer.numberOfChannels;
  }
  return mixed;
}

function wav(part) {
  const view = new DataView(new ArrayBuffer(44 + 2 * part.length));
  const text = (offset, letters) => [...letters].forEach((each, i) => view.setUint8(offset + i, each.charCodeAt(0)));
  text(0, "RIFF"); view.setUint32(4, 36 + 2 * part.length, true); text(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, 1, true);
  view.setUint32(24, RATE, true); view.setUint32(28, 2 * RATE, true);
  view.setUint16(32, 2, true); view.setUint16(34, 16, true);
  text(36, "data"); view.setUint32(40, 2 * part.length, true);
  part.forEach((each, i) => view.setInt16(44 + 2 * i, Math.max(-1, Math.min(1, each)) * 32767, true));
  return new Blob([view], { type: "audio/wav" });
}

// The text, pass by pass

const steps = () => Math.max(1, ...segments.flatMap((each) => each.words.map((word) => word.fixed_at)));

function draw() {
  canvas.replaceChildren();
  segments.forEach((segment, s) => segment.words.forEach((word, w) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "word";
    button.textContent = word.word.trim();
    button.title = `${Math.round(100 * word.probability)} % sure, pass ${word.fixed_at}`;
    button.addEventListener("click", () => edit(button, s, w));
    Object.assign(button.dataset, { fixed: word.fixed_at, start: word.start, end: word.end });
    button.dataset.sure = Math.min(4, Math.floor(word.probability * 5));
    button.classList.toggle("known", Boolean(word.known));
    if (word.word.startsWith(" ") && canvas.childNodes.length) canvas.append(" ");
    canvas.append(button);
  }));
  pass.max = steps();
  show(steps());
}

function show(step) {
  pass.value = step;
  at("passed").textContent = `pass ${step} of ${steps()}`;
  for (const word of canvas.querySelectorAll(".word")) {
    const masked = Number(word.dataset.fixed) > step;
    word.className = word.classList.contains("known") ? "word known" : "word";
    word.classList.add(masked ? "masked" : `s${word.dataset.sure}`);
    word.classList.toggle("new", Number(word.dataset.fixed) === step && step < steps());
  }
}

function replay() {
  clearInterval(playing);
  let step = 0;
  show(step);
  playing = setInterval(() => {
    show(++step);
    if (step >= steps()) clearInterval(playing);
  }, matchMedia("(prefers-reduced-motion: reduce)").matches ? 600 : 200);
}

function took(found) {
  const passes = found.segments.reduce((sum, each) => sum + each.steps, 0);
  at("took").textContent = `${found.seconds.toFixed(1)} s of sound in ${found.compute_seconds.toFixed(2)} s, ${passes} passes`
    + (writesOn ? "; choose a word to correct it" : "");
}

async function open(blob) {
  file = blob;
  at("live").hidden = true;
  at("written").hidden = true;
  say("listening");
  try {
    samples = await decoded(blob).catch(() => null);
    const found = await transcribe(blob);
    segments = found.segments;
    URL.revokeObjectURL(player.src);
    player.src = URL.createObjectURL(blob);
    at("written").hidden = false;
    say(found.warning ?? (segments.some((each) => each.text) ? "" : "nobody speaks"));
    took(found);
    draw();
    replay();
  } catch (error) {
    say(error.message, true);
  }
}

// A word that is known

function edit(button, s, w) {
  if (!writesOn) return;
  clearInterval(playing);
  show(steps());
  const field = document.createElement("input");
  const before = button.textContent;
  field.className = "edit";
  field.value = before;
  field.size = Math.max(4, before.length + 2);
  field.setAttribute("aria-label", `correct ${before}`);
  button.replaceWith(field);
  field.focus();
  field.select();
  let left = false;  // taking a field away blurs it
  const leave = () => { if (!left) { left = true; field.replaceWith(button); button.focus(); } };
  field.addEventListener("blur", leave);
  field.addEventListener("keydown", async (event) => {
    if (event.key === "Escape") leave();
    if (event.key !== "Enter") return;
    const after = field.value.trim();
    if (!after || after === before) return leave();
    leave();
    await writeAnew(s, w, after);
  });
}

async function writeAnew(s, w, after) {
  const segment = segments[s], words = segment.words, begin = performance.now();
  // Neighbours say which of several like words is meant.
  const near = [words[w - 1], words[w], words[w + 1]].map((each) => each?.word.trim() ?? "");
  const known = [near.join(" ").trim(), [near[0], after, near[2]].join(" ").trim()].join("=");
  const all = words.filter((each) => each.known).map((each) => each.word.trim());
  say("writing anew");
  try {
    const part = samples && wav(samples.slice(segment.start * RATE, segment.end * RATE));
    const found = await transcribe(part ?? file, [...all, known]);
    const mine = (each) => (part ? segment.start : 0) + each;
    const fresh = found.segments.map((each) => ({
      ...each, start: mine(each.start), end: mine(each.end),
      words: each.words.map((word) => ({ ...word, start: mine(word.start), end: mine(word.end) })),
    }));
    for (const word of fresh.flatMap((each) => each.words)) {
      word.known = [...all, after].some((each) => each.split(" ").includes(word.word.trim()));
    }
    segments = part ? [...segments.slice(0, s), ...fresh, ...segments.slice(s + 1)] : fresh;
    draw();
    say(`written again in ${((performance.now() - begin) / 1000).toFixed(2)} s`);
    canvas.querySelectorAll(".word")[segments.slice(0, s).reduce((n, each) => n + each.words.length, w)]?.focus();
  } catch (error) {
    say(error.message, true);
  }
}

// Live captions

let recorder = null;

async function record() {
  const kinds = ["audio/webm;codecs=opus", "audio/ogg;codecs=opus"];
  const kind = kinds.find((each) => MediaRecorder.isTypeSupported(each));
  const microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
  const parts = [], texts = [];
  let socket = null, now = "", guess = "";
  const tell = () => {
    at("stands").textContent = [...texts, now].filter(Boolean).join(" ");
    at("guess").textContent = guess;
  };
  if (kind) {
    const url = new URL("v1/stream", location.href);
    url.protocol = url.protocol.replace("http", "ws");
    socket = new WebSocket(url, ["whisfusion", ...(key() ? [`openai-insecure-api-key.${key()}`] : [])]);
    socket.binaryType = "arraybuffer";
    socket.addEventListener("message", ({ data }) => {
      const event = JSON.parse(data);
      if (event.type === "words") now += event.delta;
      if (event.type === "guess") guess = event.text;
      if (event.type === "text") { texts.push(event.text); now = guess = ""; }
      if (event.type === "error") say(event.message, true);
      tell();
    });
    socket.addEventListener("error", () => say("no live captions: the server refuses them", true));
  }
  recorder = new MediaRecorder(microphone, kind ? { mimeType: kind } : {});
  let sent = Promise.resolve();
  recorder.addEventListener("dataavailable", ({ data }) => {
    parts.push(data);
    sent = sent.then(async () => {
      const bytes = await data.arrayBuffer();
      if (socket?.readyState === WebSocket.CONNECTING) await new Promise((open) => socket.addEventListener("open", open, { once: true }));
      if (socket?.readyState === WebSocket.OPEN) socket.send(bytes);
    });
  });
  recorder.addEventListener("stop", async () => {
    microphone.getTracks().forEach((track) => track.stop());
    await sent;
    if (socket?.readyState === WebSocket.OPEN) socket.send("end");
    recorder = null;
    at("record").setAttribute("aria-pressed", "false");
    at("record").textContent = "Record";
    await open(new Blob(parts, { type: parts[0]?.type }));
  });
  at("written").hidden = true;
  at("live").hidden = false;
  at("stands").textContent = at("guess").textContent = "";
  say("speak");
  recorder.start(100);
  at("record").setAttribute("aria-pressed", "true");
  at("record").textContent = "Stop";
}

// Downloads

function stamp(seconds, comma) {
  const ms = Math.round(1000 * seconds);
  const [h, m, s] = [ms / 3600000, ms / 60000 % 60, ms / 1000 % 60].map((each) => String(Math.floor(each)).padStart(2, "0"));
  return `${h}:${m}:${s}${comma}${String(ms % 1000).padStart(3, "0")}`;
}

function cues() {
  const found = [];
  for (const word of segments.flatMap((each) => each.words)) {
    const last = found.at(-1), text = word.word.trim();
    if (last && last.text.length + text.length < 42 && word.start - last.end < 0.6 && !/[.?!]$/.test(last.text)) {
      last.text += (word.word.startsWith(" ") ? " " : "") + text;
      last.end = word.end;
    } else found.push({ start: word.start, end: word.end, text });
  }
  return found;
}

function download(format) {
  const comma = format === "srt" ? "," : ".";
  const timed = cues().map(({ start, end, text }, i) => `${format === "srt" ? `${i + 1}\n` : ""}${stamp(start, comma)} --> ${stamp(end, comma)}\n${text}\n`);
  const plain = segments.flatMap((each) => each.words).map((each) => each.word).join("").trim() + "\n";
  const text = { txt: plain, srt: timed.join("\n"), vtt: `WEBVTT\n\n${timed.join("\n")}` }[format];
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  link.download = `${(file.name ?? "recording").replace(/\.[^.]*$/, "")}.${format}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// What one may do

at("file").addEventListener("change", ({ target }) => target.files[0] && open(target.files[0]));
at("record").addEventListener("click", () => (recorder ? recorder.stop() : record().catch((error) => say(error.message, true))));
at("play").addEventListener("click", replay);
at("key").addEventListener("change", connect);
at("keyed").addEventListener("submit", (event) => event.preventDefault());
pass.addEventListener("input", () => { clearInterval(playing); show(Number(pass.value)); });
player.addEventListener("timeupdate", () => {
  for (const word of canvas.querySelectorAll(".word")) {
    word.classList.toggle("said", Number(word.dataset.start) <= player.currentTime && player.currentTime < Number(word.dataset.end));
  }
});
for (const button of document.querySelectorAll("nav button")) button.addEventListener("click", () => download(button.dataset.format));
for (const kind of ["dragover", "dragleave", "drop"]) {
  addEventListener(kind, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
  });
}
connect();
