"use strict";
// The page of a timeline. Everything that comes from the recording is put on the page as text, never as markup.

const begun = performance.now();
const data = JSON.parse(document.getElementById("data").textContent);
const element = (id) => document.getElementById(id);
const canvas = element("canvas"), scroll = element("scroll"), pen = canvas.getContext("2d");

const ROW = 20, AXIS = 20, TOP = 62, CURVE = 24;
const root = document.documentElement, prefersDark = matchMedia("(prefers-color-scheme: dark)");
const shade = ([light, night]) => (root.dataset.theme === "dark" ? night : light);
const [CRITICAL, ...COLOURS] = data.colours; // of the mark, then of each kind
const style = (name) => getComputedStyle(root).getPropertyValue(name).trim();

// --- Spans: one column each, times in microseconds

const { kinds, names, kind, name, start, length, row, parent, critical, facts, threads, thread } = data;
const count = start.length;
const total = Math.max(1, data.total);
const isCritical = new Uint8Array(count);
for (const span of critical) isCritical[span] = 1;
const byRow = Array.from({ length: data.rows }, () => []);
for (let span = 0; span < count; span++) byRow[row[span]].push(span);

const view = { from: 0, to: total, selected: -1, hovered: -1, matches: null, match: -1, path: true };

const seconds = (micros) => {
  if (micros >= 1e6) return `${(micros / 1e6).toFixed(micros < 1e7 ? 3 : 2)} s`;
  return micros >= 1000 ? `${(micros / 1000).toFixed(micros < 1e4 ? 2 : 1)} ms` : `${Math.round(micros)} µs`;
};

// --- LM calls in flight

const changes = data.busy.flatMap(([from, to]) => [[from, 1], [to, -1]]);
changes.sort((one, other) => one[0] - other[0] || one[1] - other[1]);

// --- Drawing

let width = 0, height = 0, scheduled = false;
const x = (time) => ((time - view.from) / (view.to - view.from)) * width;
const time = (pixel) => view.from + (pixel / width) * (view.to - view.from);

function resize() {
  const ratio = devicePixelRatio || 1;
  width = scroll.clientWidth;
  height = scroll.clientHeight;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  element("rows").style.height = `${TOP + data.rows * ROW + 8}px`;
  draw();
}

function schedule() {
  if (!scheduled) {
    scheduled = true;
    requestAnimationFrame(() => { scheduled = false; draw(); });
  }
}

// The first span of a row that ends after this moment, or begins last before it: what is drawn from.
function firstVisible(spans) {
  let low = 0, high = spans.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (start[spans[middle]] + length[spans[middle]] < view.from) low = middle + 1; else high = middle;
  }
  return low;
}

function draw() {
  const ground = style("--ground"), text = style("--text"), faint = style("--faint"), line = style("--line");
  pen.fillStyle = ground;
  pen.fillRect(0, 0, width, height);
  pen.font = "12px system-ui, sans-serif";
  pen.textBaseline = "middle";
  const first = Math.max(0, Math.floor(scroll.scrollTop / ROW));
  const last = Math.min(data.rows, Math.ceil((scroll.scrollTop + height - TOP) / ROW) + 1);
  pen.save();
  pen.beginPath();
  pen.rect(0, TOP, width, height - TOP);
  pen.clip();
  for (let number = first; number < last; number++) drawRow(number, ground, text);
  pen.restore();
  drawAxis(faint, line);
  drawCurve(text);
}

function drawRow(number, ground, text) {
  const spans = byRow[number], y = TOP + number * ROW - scroll.scrollTop;
  let drawnTo = -1;
  for (let index = firstVisible(spans); index < spans.length; index++) {
    const span = spans[index];
    if (start[span] > view.to) break;
    const left = Math.max(x(start[span]), -2), right = Math.min(x(start[span] + length[span]), width + 2);
    if (right < drawnTo && right - left < 1) continue; // on a pixel that has been drawn
    const wide = Math.max(right - left - 0.5, 1);
    drawnTo = Math.ceil(right);
    const isFound = view.matches === null || view.matches.has(span);
    pen.globalAlpha = isFound ? 1 : 0.18;
    pen.fillStyle = shade(COLOURS[kind[span]]);
    pen.fillRect(left, y + 2, wide, ROW - 4);
    if (view.path && isCritical[span]) {
      pen.fillStyle = shade(CRITICAL);
      pen.fillRect(left, y + ROW - 4, wide, 2);
    }
    if (wide > 26) label(span, left, wide, y, text);
    if (span === view.selected || span === view.hovered) {
      pen.strokeStyle = span === view.selected ? style("--accent") : text;
      pen.lineWidth = span === view.selected ? 2 : 1;
      pen.strokeRect(left, y + 2, wide, ROW - 4);
    }
  }
  pen.globalAlpha = 1;
}

const widths = [];
function label(span, left, wide, y, text) {
  const from = Math.max(left, 0) + 4, room = left + wide - from - 3;
  if (room < 18) return;
  const number = name[span], shown = names[number], whole = (widths[number] ??= pen.measureText(shown).width);
  const fits = whole <= room ? shown.length : Math.floor((room / whole) * shown.length) - 1;
  if (fits < Math.min(2, shown.length)) return;
  pen.fillStyle = text;
  pen.fillText(fits < shown.length ? `${shown.slice(0, fits)}…` : shown, from, y + ROW / 2, room);
}

// Marks of the axis: [where, text, where the text ends]. One unit for all; a text that would touch the next mark's, or
// the edge, is left out.
function marks() {
  const raw = (view.to - view.from) / Math.max(2, width / 110), power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= raw);
  const largest = Math.max(Math.abs(view.from), view.to);
  const [unit, size] = largest >= 1e6 ? ["s", 1e6] : largest >= 1e3 ? ["ms", 1e3] : ["µs", 1];
  const digits = Math.max(0, Math.ceil(-Math.log10(step / size) - 1e-9)), found = [];
  for (let number = Math.ceil(view.from / step), free = 0; number * step <= view.to; number++) {
    const at = Math.round(x(number * step)) + 0.5, text = `${(number * step / size).toFixed(digits)} ${unit}`;
    const end = at + 4 + pen.measureText(text).width;
    found.push(at < free || end > width ? [at, "", at] : [at, text, end]);
    if (found.at(-1)[1]) free = end + 6;
  }
  return found;
}

function drawAxis(faint, line) {
  pen.strokeStyle = line;
  pen.lineWidth = 1;
  pen.fillStyle = faint;
  pen.beginPath();
  for (const [at, text] of marks()) {
    pen.moveTo(at, 4);
    pen.lineTo(at, AXIS - 3);
    pen.fillText(text, at + 4, AXIS / 2);
  }
  for (const y of [AXIS - 2.5, TOP - 1.5]) {
    pen.moveTo(0, y);
    pen.lineTo(width, y);
  }
  pen.stroke();
}

function drawCurve(text) {
  if (!data.peak) return;
  const tall = new Float32Array(Math.ceil(width) + 1);
  let now = 0, index = 0;
  for (let pixel = 0; pixel <= width; pixel++) {
    const until = time(pixel + 1);
    let most = now;
    while (index < changes.length && changes[index][0] <= until) {
      now += changes[index++][1];
      most = Math.max(most, now);
    }
    tall[pixel] = pixel ? most : now;
  }
  pen.fillStyle = shade(COLOURS[kinds.indexOf("lm")]);
  const bottom = TOP - 2;
  for (let pixel = 0; pixel <= width; pixel++) {
    const high = (tall[pixel] / data.peak) * CURVE;
    pen.fillRect(pixel, bottom - high, 1, high);
  }
  pen.fillStyle = text;
  pen.fillText(`LM calls in flight, peak ${data.peak}`, 4, AXIS + 8);
}

// --- Which part is shown

function show(from, to) {
  const least = Math.max(total * 1e-6, 2);
  let wide = Math.min(Math.max(to - from, least), total * 1.04);
  from = Math.min(Math.max(from, -0.02 * total), total * 1.02 - wide);
  view.from = from;
  view.to = from + wide;
  schedule();
}
const fit = () => show(-0.01 * total, 1.01 * total);
function zoom(factor, around = (view.from + view.to) / 2) {
  show(around - (around - view.from) * factor, around + (view.to - around) * factor);
}
function goTo(span) {
  const margin = Math.max(length[span] * 1.5, (view.to - view.from) * 0.05, total * 1e-5);
  if (length[span] > (view.to - view.from) / 200 && start[span] >= view.from && start[span] + length[span] <= view.to) {
    schedule();
  } else {
    show(start[span] - margin, start[span] + length[span] + margin);
  }
  const y = TOP + row[span] * ROW;
  if (y < scroll.scrollTop + TOP || y > scroll.scrollTop + height - 2 * ROW) {
    scroll.scrollTop = Math.max(0, y - height / 2);
  }
}

// --- What a span is

function spanAt(event) {
  const box = canvas.getBoundingClientRect();
  const at = time(event.clientX - box.left), y = event.clientY - box.top;
  const spans = y < TOP ? undefined : byRow[Math.floor((y - TOP + scroll.scrollTop) / ROW)];
  if (!spans) return -1;
  const slack = ((view.to - view.from) / width) * 2;
  let best = -1, distance = Infinity;
  for (let index = firstVisible(spans); index < spans.length && start[spans[index]] <= at + slack; index++) {
    const span = spans[index], end = start[span] + length[span];
    const off = at < start[span] ? start[span] - at : at > end ? at - end : 0;
    if (off <= slack && off < distance) [best, distance] = [span, off];
  }
  return best;
}

function describe(span) {
  const known = facts[span] ?? {};
  const about = [
    ["kind", kinds[kind[span]]], ["took", seconds(length[span])], ["began at", seconds(start[span])],
    ["thread", threads[thread[span]]], ["critical path", isCritical[span] ? "yes" : "no"],
  ];
  if (parent[span] >= 0) about.push(["part of", names[name[parent[span]]]]);
  for (const [fact, value] of Object.entries(known)) {
    about.push([fact, typeof value === "string" ? value : JSON.stringify(value)]);
  }
  return about;
}

function put(tag, text) {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

function hint(span, event) {
  const box = element("hint");
  box.hidden = span < 0;
  canvas.style.cursor = span < 0 ? "" : "pointer";
  if (span < 0) return;
  const text = `${kinds[kind[span]]} · ${seconds(length[span])} · at ${seconds(start[span])}`;
  box.replaceChildren(put("b", names[name[span]]), put("span", text));
  const left = Math.min(event.clientX + 14, innerWidth - box.offsetWidth - 6);
  const top = event.clientY + 18 + box.offsetHeight > innerHeight ? event.clientY - box.offsetHeight - 8 : event.clientY + 18;
  box.style.transform = `translate(${Math.max(left, 4)}px, ${Math.max(top, 4)}px)`;
}

function select(span) {
  view.selected = span;
  const panel = element("details"), wasHidden = panel.hidden;
  panel.hidden = span < 0;
  if (span >= 0) {
    const close = put("button", "×"), table = document.createElement("table");
    close.setAttribute("aria-label", "Close");
    close.addEventListener("click", () => select(-1));
    for (const [what, value] of describe(span)) {
      const line = document.createElement("tr");
      line.append(put("th", what), put("td", value));
      table.append(line);
    }
    panel.replaceChildren(close, put("h2", names[name[span]]), table);
  }
  if (wasHidden !== panel.hidden) resize(); else schedule();
}

// --- Search

function search(text) {
  const wanted = text.trim().toLowerCase();
  view.match = -1;
  if (!wanted) {
    view.matches = null;
    element("found").textContent = "";
    return schedule();
  }
  const isName = names.map((shown) => shown.toLowerCase().includes(wanted));
  const isKind = kinds.map((shown) => shown === wanted);
  view.matches = new Set();
  for (let span = 0; span < count; span++) if (isName[name[span]] || isKind[kind[span]]) view.matches.add(span);
  view.order = [...view.matches];
  element("found").textContent = `${view.matches.size.toLocaleString("en")} of ${count.toLocaleString("en")}`;
  schedule();
}

function next(step) {
  if (!view.matches || !view.order.length) return;
  const many = view.order.length;
  view.match = view.match < 0 ? (step > 0 ? 0 : many - 1) : (view.match + step + many) % many;
  element("found").textContent = `${(view.match + 1).toLocaleString("en")} of ${many.toLocaleString("en")}`;
  select(view.order[view.match]);
  goTo(view.order[view.match]);
}

// --- Mouse, keys, buttons

let drag = null;
canvas.addEventListener("pointerdown", (event) => {
  drag = { x: event.clientX, y: event.clientY, from: view.from, to: view.to, top: scroll.scrollTop, moved: false };
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener("pointermove", (event) => {
  if (drag) {
    const right = event.clientX - drag.x, down = event.clientY - drag.y;
    drag.moved ||= Math.abs(right) + Math.abs(down) > 4;
    if (!drag.moved) return;
    canvas.classList.add("dragging");
    hint(-1);
    const moved = (right / width) * (drag.to - drag.from);
    show(drag.from - moved, drag.to - moved);
    scroll.scrollTop = drag.top - down;
    return;
  }
  const span = spanAt(event);
  hint(span, event);
  if (span !== view.hovered) {
    view.hovered = span;
    schedule();
  }
});
canvas.addEventListener("pointerup", (event) => {
  if (drag && !drag.moved) select(spanAt(event));
  drag = null;
  canvas.classList.remove("dragging");
});
canvas.addEventListener("pointerleave", () => { hint(-1); view.hovered = -1; schedule(); });
canvas.addEventListener("dblclick", (event) => {
  const span = spanAt(event);
  if (span >= 0) show(start[span] - length[span] * 0.1, start[span] + length[span] * 1.1); else fit();
});
canvas.addEventListener("wheel", (event) => {
  const box = canvas.getBoundingClientRect();
  const isScrollable = TOP + data.rows * ROW + 8 > height;
  if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
    const moved = ((event.deltaX || event.deltaY) / width) * (view.to - view.from);
    show(view.from + moved, view.to + moved);
  } else if (event.ctrlKey || event.metaKey || event.altKey || !isScrollable) {
    zoom(1.002 ** event.deltaY, time(event.clientX - box.left));
  } else {
    return; // scrolls the rows
  }
  event.preventDefault();
}, { passive: false });
scroll.addEventListener("scroll", schedule);

const input = element("search");
input.addEventListener("input", () => search(input.value));
input.addEventListener("keydown", (event) => {
  if (event.key === "Enter") next(event.shiftKey ? -1 : 1);
  if (event.key === "Escape") { input.value = ""; search(""); input.blur(); }
});
// The span that began next, or before.
function step(by) {
  if (!count) return;
  const to = view.selected < 0 ? (by > 0 ? 0 : count - 1) : Math.min(Math.max(view.selected + by, 0), count - 1);
  select(to);
  goTo(to);
}
const pan = (share) => show(view.from + (view.to - view.from) * share, view.to + (view.to - view.from) * share);
const KEYS = {
  "+": () => zoom(0.7), "=": () => zoom(0.7), "-": () => zoom(1 / 0.7), 0: fit,
  ArrowLeft: () => pan(-0.15), ArrowRight: () => pan(0.15),
  ArrowUp: () => step(-1), ArrowDown: () => step(1),
  "/": () => input.focus(), Escape: () => select(-1),
  c: () => element("path").click(), d: () => element("theme").click(),
};
addEventListener("keydown", (event) => {
  if (event.target === input || event.ctrlKey || event.metaKey || event.altKey || !(event.key in KEYS)) return;
  event.preventDefault();
  KEYS[event.key]();
});
element("in").addEventListener("click", () => zoom(0.5));
element("out").addEventListener("click", () => zoom(2));
element("fit").addEventListener("click", fit);
element("path").addEventListener("click", (event) => {
  view.path = !view.path;
  event.currentTarget.setAttribute("aria-pressed", view.path);
  schedule();
});

function light(isDark) {
  root.dataset.theme = isDark ? "dark" : "light";
  legend();
  schedule();
}
element("theme").addEventListener("click", () => light(root.dataset.theme !== "dark"));

function legend() {
  const used = kinds.map((shown, number) => {
    const entry = document.createElement("span"), patch = document.createElement("i");
    patch.style.background = shade(COLOURS[number]);
    entry.append(patch, shown);
    return entry;
  });
  element("legend").replaceChildren(...used);
}

prefersDark.addEventListener("change", () => light(prefersDark.matches));
new ResizeObserver(resize).observe(scroll);
light(prefersDark.matches);
fit();
resize();
root.dataset.ready = Math.round(performance.now() - begun);
