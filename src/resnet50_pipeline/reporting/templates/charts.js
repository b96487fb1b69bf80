"use strict";
// Elements, number formats and charts of the pages. The pages add all text as text nodes, never as HTML.

const SVG = "http://www.w3.org/2000/svg";

function add(parent, tag, attributes = {}, ...children) {
  const element = parent instanceof SVGElement || tag === "svg" ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  if (parent) parent.append(element);
  return element;
}

function clear(element) {
  element.replaceChildren();
  return element;
}

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

const isNumber = (value) => value !== null && value !== undefined && Number.isFinite(value);
const percent = (value, decimals = 1) => (isNumber(value) ? `${(100 * value).toFixed(decimals)}%` : "n/a");
const count = (value) => Math.round(value).toLocaleString("en-US");
const plural = (value, noun) => `${count(value)} ${noun}${value === 1 ? "" : "s"}`;
const number = (value) => (Math.abs(value) >= 1000 ? count(value) : `${Number(value.toPrecision(4))}`);

function shortCount(value) {
  if (value >= 1e6) return `${Number((value / 1e6).toPrecision(2))}M`;
  if (value >= 1000) return `${Number((value / 1000).toPrecision(value >= 1e5 ? 3 : 2))}k`;
  return `${value}`;
}

function niceTicks(low, high, wanted) {
  const raw = (high - low) / Math.max(wanted, 1) || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= raw * 0.999);
  const ticks = [];
  for (let index = Math.ceil(low / step - 1e-9); index * step <= high + step * 1e-9; index += 1) ticks.push(index * step);
  return ticks.map((tick) => Number(tick.toPrecision(10)));
}

function logTicks(low, high) {
  if (!(low > 0) || !Number.isFinite(high)) return [];
  const ticks = [];
  const factors = Math.log10(high / low) < 1.2 ? [1, 2, 3, 5, 7] : Math.log10(high / low) < 2.5 ? [1, 2, 5] : [1];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
    for (const factor of factors) {
      const tick = factor * 10 ** power;
      if (tick >= low * 0.999 && tick <= high * 1.001) ticks.push(Number(tick.toPrecision(4)));
    }
  }
  return ticks;
}

function onResize(element, draw) {
  let width = 0;
  new ResizeObserver(() => {
    if (element.clientWidth !== width && element.clientWidth > 0) {
      width = element.clientWidth;
      draw();
    }
  }).observe(element);
}

function switchButtons(parent, label, options, chosen, onChoose) {
  const group = add(parent, "span", { class: "switch", role: "group", "aria-label": label });
  const buttons = options.map(([value, text]) =>
    add(group, "button", { type: "button", "aria-pressed": String(value === chosen), onclick: () => choose(value) }, text));
  function choose(value) {
    options.forEach(([other], index) => buttons[index].setAttribute("aria-pressed", String(other === value)));
    onChoose(value);
  }
  return group;
}

// ── Curves ──

// Panels that share their x-axis. `curves` is the result of describe_curves, or of several runs with a `run` per series.
// `colors` returns the CSS classes of a series.
function drawCurves(box, curves, colors) {
  const state = { axis: "step", range: null, log: {}, hidden: new Set() };
  const controls = add(box, "div", { class: "controls" });
  switchButtons(controls, "Horizontal axis", [["step", "steps"], ["epoch", "epochs"]], "step", (axis) => {
    state.axis = axis;
    state.range = null;
    drawAll();
  });
  addLegend(controls, curves.panels.flatMap((panel) => panel.series).filter((one) => one.tone === undefined), state, colors, drawAll);
  const reset = add(controls, "button", { type: "button", hidden: true, onclick: () => zoom(null) }, "Reset zoom");
  const grid = add(box, "div", { class: "panels" });
  const panels = curves.panels.map((panel) => makePanel(grid, panel, curves.restarts || { step: [], epoch: [] }, state, colors, zoom));
  function zoom(range) {
    state.range = range;
    drawAll();
  }
  function drawAll() {
    reset.hidden = state.range === null;
    for (const draw of panels) draw();
  }
  const restarts = (curves.restarts || { step: [] }).step.length;
  const note = restarts ? ` Dashed lines: training was resumed (${restarts === 1 ? "once" : `${restarts} times`}).` : "";
  add(box, "p", { class: "quiet hint" }, `Drag to zoom; double-click to reset.${note}`);
}

// Buttons that show and hide series. Series with tones have a separate legend in their panel.
function addLegend(parent, series, state, colors, drawAll) {
  const legend = add(parent, "span", { class: "legend", role: "group", "aria-label": "Series" });
  for (const [key, one] of new Map(series.map((one) => [seriesKey(one), one]))) {
    const button = add(legend, "button", { type: "button", "aria-pressed": "true" }, add(null, "span", { class: `key ${colors(one)}` }), one.name);
    button.addEventListener("click", () => {
      if (!state.hidden.delete(key)) state.hidden.add(key);
      button.setAttribute("aria-pressed", String(!state.hidden.has(key)));
      drawAll();
    });
  }
}

// CSS classes of a series of `merge_curves` with two runs.
function runColor({ run, event }) {
  const tone = run === 0 ? "main" : "contrast";
  if (event === "train_step") return `${tone} faint`;
  return event === "eval_end" ? tone : `${tone} dashed`;
}

// Two runs may have the same name.
const seriesKey = (one) => `${one.run ?? 0} ${one.name}`;

function makePanel(grid, panel, restarts, state, allColors, zoom) {
  // Faint colors are for the background of stronger lines.
  const isFaint = panel.series.every((one) => allColors(one).includes("faint"));
  const colors = isFaint ? (one) => allColors(one).replace(" faint", "") : allColors;
  const figure = add(grid, "figure", { class: "panel" });
  const head = add(figure, "figcaption", {}, add(null, "span", {}, panel.title));
  const isPercent = panel.column === "top1";
  const values = panel.series.flatMap((one) => one.value);
  if (!isPercent && values.every((value) => value > 0)) {
    const low = Math.min(...values);
    state.log[panel.title] = panel.log || panel.column === "learning_rate" && isPiecewise(panel.series[0].value) && Math.max(...values) / low > 20;
    const button = add(head, "button", { type: "button", "aria-pressed": String(state.log[panel.title]) }, "log");
    button.addEventListener("click", () => {
      state.log[panel.title] = !state.log[panel.title];
      button.setAttribute("aria-pressed", String(state.log[panel.title]));
      draw();
    });
  }
  const toned = panel.series.filter((one) => one.tone !== undefined);
  if (toned.length) addLegend(add(figure, "div", { class: "tones" }), toned, state, colors, () => draw());
  const holder = add(figure, "div", { class: "plot" });
  const format = isPercent ? (value) => percent(value) : number;
  const draw = () => drawPanel(clear(holder), panel, restarts, state, colors, format, zoom);
  onResize(holder, draw);
  return draw;
}

function isPiecewise(values) {
  let same = 0;
  for (let index = 1; index < values.length; index += 1) same += values[index] === values[index - 1];
  return same > values.length / 2;
}

// Number of clipping paths so far. Their ids must be unique in the page.
let clips = 0;

function drawPanel(holder, panel, restarts, state, colors, format, zoom) {
  const width = Math.max(holder.clientWidth, 200), height = 230;
  const frame = { left: 52, right: width - 10, top: 10, bottom: height - 26 };
  const series = panel.series.filter((one) => !state.hidden.has(seriesKey(one)));
  const all = series.flatMap((one) => one[state.axis]);
  const full = [0, Math.max(...all, 1e-9)];
  const [first, last] = state.range || full;
  const visible = series.map((one) => one.value.filter((_, index) => one[state.axis][index] >= first && one[state.axis][index] <= last));
  const y = scaleValues(visible.flat(), panel, state, frame);
  const x = (value) => frame.left + ((value - first) / (last - first || 1)) * (frame.right - frame.left);
  const svg = add(holder, "svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${panel.title} by ${state.axis}` });
  for (const tick of y.ticks) {
    add(svg, "line", { class: "grid", x1: frame.left, x2: frame.right, y1: y.at(tick), y2: y.at(tick) });
    add(svg, "text", { class: "tick", x: frame.left - 7, y: y.at(tick) + 4, "text-anchor": "end" }, panel.column === "top1" ? percent(tick, y.decimals) : tickText(tick));
  }
  for (const tick of niceTicks(first, last, Math.max(2, Math.floor(width / 90)))) {
    add(svg, "text", { class: "tick x-tick", x: x(tick), y: height - 8, "text-anchor": x(tick) > frame.right - 12 ? "end" : "middle" }, tickText(tick));
  }
  add(svg, "line", { class: "axis", x1: frame.left, x2: frame.right, y1: frame.bottom, y2: frame.bottom });
  for (const restart of restarts[state.axis]) {
    if (restart >= first && restart <= last) add(svg, "line", { class: "restart", x1: x(restart), x2: x(restart), y1: frame.top, y2: frame.bottom });
  }
  const clip = `clip-${(clips += 1)}`;
  add(add(svg, "clipPath", { id: clip }), "rect", { x: frame.left - 6, y: 0, width: frame.right - frame.left + 12, height: frame.bottom + 6 });
  const lines = add(svg, "g", { "clip-path": `url(#${clip})` });
  for (const one of series) drawSeries(lines, one, one[state.axis], x, y.at, colors(one));
  addHover(holder, svg, series, state, { x, y: y.at, frame, first, last, format, colors, zoom });
}

const tickText = (value) => (value >= 10000 ? shortCount(value) : value >= 1000 ? count(value) : `${Number(value.toPrecision(3))}`);

function scaleValues(values, panel, state, frame) {
  let low = Math.min(...values), high = Math.max(...values);
  if (!values.length) [low, high] = [0, 1];
  if (state.log[panel.title] && values.length) {
    const ratio = Math.log(high / low) || 1;
    const at = (value) => frame.bottom - (Math.log(value / low) / ratio) * (frame.bottom - frame.top);
    return { at, ticks: logTicks(low, high), decimals: 0 };
  }
  // Unless the reader has zoomed in, losses, rates and speeds start at zero.
  if (panel.column !== "top1" && !state.range) low = Math.min(low, 0);
  const margin = (high - low || 1) * 0.06;
  high = panel.column === "top1" ? Math.min(1, high + margin) : high + margin;
  if (low !== 0) low = panel.column === "top1" ? Math.max(0, low - margin) : low - margin;
  const ticks = niceTicks(low, high, 5);
  const at = (value) => frame.bottom - ((value - low) / (high - low || 1)) * (frame.bottom - frame.top);
  return { at, ticks, decimals: ticks.length > 1 && ticks[1] - ticks[0] < 0.00999 ? 1 : 0 };
}

function drawSeries(group, one, xs, x, y, color) {
  const path = xs.map((at, index) => `${index ? "L" : "M"}${x(at).toFixed(1)} ${y(one.value[index]).toFixed(1)}`).join("");
  add(group, "path", { class: `line ${color}`, d: path });
  if (xs.length <= 40 && !color.includes("faint")) {
    xs.forEach((at, index) => add(group, "circle", { class: `dot ${color}`, cx: x(at), cy: y(one.value[index]), r: 3.5 }));
  }
}

function nearest(xs, value) {
  let low = 0, high = xs.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (xs[middle] < value) low = middle;
    else high = middle;
  }
  return Math.abs(xs[low] - value) <= Math.abs(xs[high] - value) ? low : high;
}

function addHover(holder, svg, series, state, plot) {
  const { frame } = plot;
  const guide = add(svg, "line", { class: "guide", y1: frame.top, y2: frame.bottom, visibility: "hidden" });
  const marks = add(svg, "g");
  const selection = add(svg, "rect", { class: "selection", y: frame.top, height: frame.bottom - frame.top, visibility: "hidden" });
  const tip = add(holder, "div", { class: "tip", hidden: true });
  let start = null;
  const place = (event) => Math.min(Math.max(event.clientX - svg.getBoundingClientRect().left, frame.left), frame.right);
  const valueAt = (pixel) => plot.first + ((pixel - frame.left) / (frame.right - frame.left)) * (plot.last - plot.first);
  svg.addEventListener("pointermove", (event) => {
    const pixel = place(event);
    if (start !== null) {
      selection.setAttribute("x", Math.min(start, pixel));
      selection.setAttribute("width", Math.abs(pixel - start));
      selection.setAttribute("visibility", "visible");
    }
    showValues(pixel);
  });
  svg.addEventListener("pointerleave", () => {
    tip.hidden = true;
    guide.setAttribute("visibility", "hidden");
    clear(marks);
  });
  svg.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "mouse") {
      start = place(event);
      svg.setPointerCapture(event.pointerId);
    }
  });
  svg.addEventListener("pointerup", (event) => {
    const pixel = place(event), from = start;
    start = null;
    selection.setAttribute("visibility", "hidden");
    if (from !== null && Math.abs(pixel - from) > 8) plot.zoom([valueAt(Math.min(from, pixel)), valueAt(Math.max(from, pixel))]);
  });
  svg.addEventListener("dblclick", () => plot.zoom(null));
  function showValues(pixel) {
    clear(marks);
    clear(tip);
    const wanted = valueAt(pixel);
    let title = null;
    for (const one of series) {
      const xs = one[state.axis];
      const index = nearest(xs, wanted);
      if (Math.abs(plot.x(xs[index]) - pixel) > Math.max(30, (frame.right - frame.left) / 12)) continue;
      title ??= `${state.axis} ${number(xs[index])}`;
      add(marks, "circle", { class: `dot ring ${plot.colors(one)}`, cx: plot.x(xs[index]), cy: plot.y(one.value[index]), r: 4.5 });
      add(tip, "div", {}, add(null, "span", { class: `key ${plot.colors(one)}` }), `${one.name} `, add(null, "b", {}, plot.format(one.value[index])));
    }
    tip.hidden = title === null;
    if (title === null) return;
    tip.prepend(add(null, "div", { class: "quiet" }, title));
    guide.setAttribute("x1", pixel);
    guide.setAttribute("x2", pixel);
    guide.setAttribute("visibility", "visible");
    tip.style.left = `${Math.max(0, pixel > holder.clientWidth / 2 ? pixel - tip.offsetWidth - 14 : pixel + 14)}px`;
  }
}

// ── Dots with intervals, one row per item ──

// Items: name, value, low, high, note, tone ("wrong" or ""), and onclick.
function drawDots(box, items, mean, meanLabel) {
  const ends = items.flatMap((item) => [item.low, item.high]).filter(isNumber);
  if (isNumber(mean)) ends.push(mean);
  let low = Math.min(...ends), high = Math.max(...ends);
  const margin = (high - low || 0.02) * 0.05;
  low = Math.max(0, low - margin);
  high = Math.min(1, high + margin);
  const ticks = niceTicks(low, high, box.clientWidth < 500 ? 3 : 4);
  const at = (value) => `${(100 * (value - low)) / (high - low)}%`;
  const chart = add(clear(box), "div", { class: "dots" });
  const decimals = ticks.length > 1 && ticks[1] - ticks[0] < 0.00999 ? 1 : 0;
  for (const item of items) {
    const row = add(chart, "button", { type: "button", class: `dots-row ${item.tone}`, title: item.title, onclick: item.onclick });
    add(row, "span", { class: "dots-name" }, item.name);
    const track = add(row, "span", { class: "dots-track" });
    for (const tick of ticks) add(track, "i", { class: "dots-grid" }).style.left = at(tick);
    if (isNumber(mean)) add(track, "i", { class: "dots-mean" }).style.left = at(mean);
    if (isNumber(item.value)) {
      const interval = add(track, "i", { class: "dots-interval" });
      interval.style.left = at(item.low);
      interval.style.width = `${(100 * (item.high - item.low)) / (high - low)}%`;
      add(track, "i", { class: "dots-dot" }).style.left = at(item.value);
    }
    add(row, "span", { class: "dots-value" }, percent(item.value), add(null, "span", { class: "quiet" }, ` ${item.note}`));
  }
  const foot = add(chart, "div", { class: "dots-row foot" });
  add(foot, "span", { class: "dots-name" }, isNumber(mean) ? meanLabel : "");
  const axis = add(foot, "span", { class: "dots-track" });
  for (const tick of ticks) add(axis, "span", { class: "dots-tick" }, percent(tick, decimals)).style.left = at(tick);
  add(foot, "span", { class: "dots-value" });
}
