"use strict";
// Fills the sections of an evaluation report.

const MATRIX_CLASSES = 20;
const DOTS_SHOWN = 30;
const TABLE_ROWS = 25;
// Bins with fewer images are pale.
const RELIABLE_BIN = 30;
const byId = (id) => document.getElementById(id);

unpack(byId("report-data").textContent).then(drawReport);

function drawReport(data) {
  const { classes, images } = data;
  const browser = makeImageBrowser(byId("image-browser"), classes, images);
  // Copies in MLflow or in other folders are not next to an index page.
  byId("index-link").hidden = !location.pathname.endsWith("/08_reporting/evaluation_report.html");
  if (data.curves) drawCurves(byId("curves"), data.curves, seriesColor);
  if (data.comparedCurves) drawCurves(byId("compared-curves"), data.comparedCurves, runColor);
  if (data.robustness) drawRobustness(byId("robustness-curves"), data.robustness);
  drawConfusion(data, browser);
  drawPairs(data, browser);
  drawClasses(data, browser);
  drawReliability(byId("reliability"), data.reliability, (bin) => browser.show({ low: bin.low, high: bin.high }, byId("calibration")));
  for (const link of document.querySelectorAll("[data-side]")) {
    link.addEventListener("click", () => browser.show({ side: link.dataset.side }, byId("comparison")));
  }
  document.documentElement.dataset.ready = "yes";
}

function seriesColor({ event, tone }) {
  if (tone !== undefined) return `tone-${tone}`;
  return { train_step: "main faint", epoch_end: "main", eval_end: "contrast" }[event];
}

// ── Robustness ──

function drawRobustness(box, panel) {
  const state = { axis: "severity", range: null, log: {}, hidden: new Set() };
  const draw = makePanel(box, panel, { severity: [] }, state, seriesColor, (range) => {
    state.range = range;
    draw();
  });
  add(box, "p", { class: "quiet hint" }, "At severity 0, the images are unchanged.");
}

// ── Confusion ──

function indexPairs(confusion, size) {
  const pairs = new Map();
  confusion[0].forEach((label, index) => pairs.set(label * size + confusion[1][index], confusion[2][index]));
  return pairs;
}

function wrongPairs(confusion) {
  const pairs = confusion[0].map((label, index) => ({ label, predicted: confusion[1][index], images: confusion[2][index] }));
  return pairs.filter((pair) => pair.label !== pair.predicted).sort((a, b) => b.images - a.images || a.label - b.label || a.predicted - b.predicted);
}

function drawConfusion({ classes, confusion }, browser) {
  const size = classes.name.length, pairs = indexPairs(confusion, size), wrong = wrongPairs(confusion);
  const box = byId("matrix");
  const isWhole = size <= 30;
  let normalized = false, chosen = isWhole ? classes.name.map((_, id) => id) : mostConfused(wrong);
  const controls = add(box, "div", { class: "controls" });
  switchButtons(controls, "Cells", [[false, "images"], [true, "% of the class"]], false, (value) => {
    normalized = value;
    draw();
  });
  if (!isWhole) {
    const select = add(add(controls, "label", {}, "classes"), "select", {
      onchange: () => {
        chosen = select.value === "" ? mostConfused(wrong) : confusedWith(Number(select.value), wrong);
        draw();
      },
    });
    add(select, "option", { value: "" }, `the ${MATRIX_CLASSES} most confused`);
    classes.name.forEach((name, id) => add(select, "option", { value: id }, `${name} and those confused with it`));
  }
  const scroll = add(box, "div", { class: "scroll matrix-box" });
  draw();

  function draw() {
    const table = add(clear(scroll), "table", { class: "matrix" });
    const head = add(add(table, "thead"), "tr");
    add(head, "th", { class: "corner" }, "true ↓ predicted →");
    for (const id of chosen) add(add(head, "th", { scope: "col" }), "span", { title: classes.name[id] }, classes.name[id]);
    if (!isWhole) add(add(head, "th", { scope: "col" }), "span", {}, "other classes");
    const body = add(table, "tbody");
    for (const label of chosen) {
      const row = add(body, "tr");
      const name = add(row, "th", { scope: "row" });
      add(name, "button", { type: "button", title: `Show the images of ${classes.name[label]}`, onclick: () => browser.show({ label }, byId("confusion")) }, classes.name[label]);
      let rest = classes.images[label];
      for (const predicted of chosen) {
        const images = pairs.get(label * size + predicted) || 0;
        rest -= images;
        cell(row, label, predicted, images);
      }
      if (!isWhole) add(row, "td", { class: "rest" }, rest ? text(rest, label) : "");
    }
  }
  function text(images, label) {
    if (!normalized) return count(images);
    const share = (100 * images) / classes.images[label];
    return share >= 99.95 || share === 0 ? share.toFixed(0) : share.toFixed(1);
  }
  function cell(row, label, predicted, images) {
    const td = add(row, "td", { class: images ? (label === predicted ? "hit" : "miss") : "" });
    if (!images) return;
    const share = images / classes.images[label];
    td.style.setProperty("--share", `${(100 * (label === predicted ? 0.15 + 0.85 * share : 0.18 + 0.82 * Math.sqrt(share))).toFixed(1)}%`);
    if ((label === predicted ? share : Math.sqrt(share)) > 0.55) td.classList.add("strong");
    const what = `${plural(images, "image")} of ${classes.name[label]} predicted as ${classes.name[predicted]} (${percent(share)})`;
    add(td, "button", { type: "button", title: what, "aria-label": what, onclick: () => browser.show({ label, predicted }, byId("confusion")) }, text(images, label));
  }
}

function mostConfused(wrong) {
  const chosen = new Set();
  for (const pair of wrong) {
    if (new Set([...chosen, pair.label, pair.predicted]).size <= MATRIX_CLASSES) chosen.add(pair.label).add(pair.predicted);
    if (chosen.size >= MATRIX_CLASSES - 1) break;
  }
  return [...chosen];
}

function confusedWith(id, wrong) {
  const chosen = new Set([id]);
  for (const pair of wrong) {
    if (pair.label === id) chosen.add(pair.predicted);
    if (pair.predicted === id) chosen.add(pair.label);
    if (chosen.size >= MATRIX_CLASSES) break;
  }
  return [...chosen];
}

function drawPairs({ classes, confusion, rows }, browser) {
  const pairs = wrongPairs(confusion).slice(0, rows);
  const box = byId("pairs");
  if (!pairs.length) {
    add(box, "p", {}, "All images were classified correctly.");
    return;
  }
  add(box, "h3", {}, "Most confused pairs");
  const list = add(box, "div", { class: "pairs" });
  for (const pair of pairs) {
    const row = add(list, "button", { type: "button", class: "pair", onclick: () => browser.show({ label: pair.label, predicted: pair.predicted }, byId("confusion")) });
    add(row, "span", { class: "pair-name" }, classes.name[pair.label], add(null, "span", { class: "quiet" }, " → "), classes.name[pair.predicted]);
    add(add(row, "span", { class: "bar wrong-bar" }), "span").style.width = `${(100 * pair.images) / pairs[0].images}%`;
    add(row, "span", { class: "n" }, count(pair.images), add(null, "span", { class: "quiet" }, ` ${percent(pair.images / classes.images[pair.label])}`));
  }
}

// ── Classes ──

const CLASS_METRICS = { top1: "recall (top-1)", precision: "precision", f1: "F1" };

function drawClasses({ classes, metrics }, browser) {
  const ids = classes.name.map((_, id) => id).filter((id) => classes.images[id] > 0);
  const box = byId("class-dots");
  const controls = add(box, "div", { class: "controls" });
  const chart = add(box, "div");
  const means = { top1: metrics.top1, precision: metrics.macro_precision, f1: metrics.macro_f1 };
  const labels = { top1: "line: all images", precision: "line: mean over classes", f1: "line: mean over classes" };
  let metric = "top1", order = "low";
  switchButtons(controls, "Metric", Object.entries(CLASS_METRICS), metric, (value) => {
    metric = value;
    draw();
  });
  const many = ids.length > DOTS_SHOWN;
  switchButtons(controls, "Order", [["low", many ? `lowest ${DOTS_SHOWN}` : "lowest first"], ["high", many ? `highest ${DOTS_SHOWN}` : "highest first"], ...(many ? [] : [["id", "by id"]])], order, (value) => {
    order = value;
    draw();
  });
  draw();
  drawClassTable({ classes }, browser);

  function draw() {
    const values = classes[metric];
    const rank = (id) => (isNumber(values[id]) ? values[id] : -1);
    const sorted = [...ids];
    if (order !== "id") sorted.sort((a, b) => (order === "low" ? rank(a) - rank(b) : rank(b) - rank(a)) || a - b);
    drawDots(chart, sorted.slice(0, many ? DOTS_SHOWN : ids.length).map((id) => ({
      name: classes.name[id], value: values[id], low: classes[`${metric}_low`][id], high: classes[`${metric}_high`][id],
      note: note(id), tone: metric === "top1" && classes.below[id] ? "wrong" : "",
      title: `Show the images of ${classes.name[id]}`, onclick: () => browser.show({ label: id }, byId("classes")),
    })), means[metric], `${labels[metric]}, ${percent(means[metric])}`);
  }
  function note(id) {
    if (metric === "top1") return `${count(classes.correct[id])}/${count(classes.images[id])}`;
    if (metric === "precision") return `${count(classes.correct[id])}/${count(classes.predicted[id])}`;
    return `n=${count(classes.images[id])}`;
  }
}

const TABLE_COLUMNS = [
  ["id", "id", (_, id) => id, (value) => String(value)],
  ["name", "class", (classes, id) => classes.name[id], null],
  ["f1", "F1", (classes, id) => classes.f1[id], percent],
  ["precision", "precision", (classes, id) => classes.precision[id], percent],
  ["top1", "recall (top-1)", (classes, id) => classes.top1[id], percent],
  ["top5", "top-5", (classes, id) => classes.top5[id], percent],
  ["images", "images", (classes, id) => classes.images[id], count],
  ["confused", "most frequent wrong prediction", (classes, id) => classes.confused_images[id], null],
];

function drawClassTable({ classes }, browser) {
  const box = byId("class-table");
  const state = { by: "id", down: false, page: 0, text: "", below: false };
  const belowCount = classes.below.reduce((sum, one) => sum + one, 0);
  const controls = add(box, "div", { class: "controls" });
  if (classes.name.length > TABLE_ROWS) {
    const search = add(add(controls, "label", {}, "class"), "input", { type: "search", placeholder: "any", oninput: () => change({ text: search.value.trim().toLowerCase() }) });
  }
  if (belowCount) {
    const check = add(null, "input", { type: "checkbox", onchange: () => change({ below: check.checked }) });
    add(controls, "label", { class: "check" }, check, ` only the ${count(belowCount)} significantly below the mean`);
  }
  const holder = add(box, "div", { class: "scroll" });
  const pager = add(box, "div", { class: "controls pager" });
  draw();

  function change(wanted) {
    Object.assign(state, { page: 0 }, wanted);
    draw();
  }
  function sorted() {
    const value = TABLE_COLUMNS.find(([key]) => key === state.by)[2];
    const ids = classes.name.map((_, id) => id).filter((id) =>
      (!state.below || classes.below[id]) && `${classes.name[id]} ${classes.synset[id]}`.toLowerCase().includes(state.text));
    const sign = state.down ? -1 : 1;
    return ids.sort((a, b) => {
      const [left, right] = [value(classes, a), value(classes, b)];
      if (typeof left === "string") return sign * left.localeCompare(right) || a - b;
      return sign * ((isNumber(left) ? left : 2) - (isNumber(right) ? right : 2)) || a - b;
    });
  }
  function draw() {
    const ids = sorted(), pages = Math.max(1, Math.ceil(ids.length / TABLE_ROWS));
    const table = add(clear(holder), "table");
    const head = add(add(table, "thead"), "tr");
    for (const [key, title] of TABLE_COLUMNS) {
      const isCurrent = key === state.by;
      const th = add(head, "th", { scope: "col", class: key === "name" || key === "confused" ? null : "n", "aria-sort": isCurrent ? (state.down ? "descending" : "ascending") : null });
      add(th, "button", { type: "button", onclick: () => change({ by: key, down: isCurrent ? !state.down : key === "confused" || key === "images" }) }, `${title}${isCurrent ? (state.down ? " ↓" : " ↑") : ""}`);
    }
    const body = add(table, "tbody");
    for (const id of ids.slice(state.page * TABLE_ROWS, (state.page + 1) * TABLE_ROWS)) addRow(body, id);
    clear(pager).hidden = pages === 1;
    add(pager, "button", { type: "button", disabled: state.page === 0, onclick: () => change({ page: state.page - 1 }) }, "Previous");
    add(pager, "span", { class: "quiet" }, `page ${state.page + 1} of ${pages}`);
    add(pager, "button", { type: "button", disabled: state.page === pages - 1, onclick: () => change({ page: state.page + 1 }) }, "Next");
  }
  function addRow(body, id) {
    const row = add(body, "tr");
    for (const [key, , value, format] of TABLE_COLUMNS) {
      if (key === "name") {
        const th = add(row, "th", { scope: "row" });
        add(th, "button", { type: "button", class: "link", onclick: () => browser.show({ label: id }, byId("classes")) }, classes.name[id]);
        if (classes.synset[id] && !classes.name[id].includes(classes.synset[id])) add(th, "code", {}, ` ${classes.synset[id]}`);
      } else if (key === "confused") {
        const td = add(row, "td", {}, classes.confused_with[id] || "–");
        if (classes.confused_images[id]) add(td, "span", { class: "quiet" }, ` (${count(classes.confused_images[id])})`);
      } else {
        add(row, "td", { class: key === "top1" && classes.below[id] ? "n wrong" : "n" }, format(value(classes, id)));
      }
    }
  }
}

// ── Reliability ──

function drawReliability(box, bins, onBin) {
  const holder = add(box, "div", { class: "plot" });
  onResize(holder, draw);

  function draw() {
    const width = Math.min(holder.clientWidth, 760), height = 420;
    const frame = { left: 46, right: width - 10, top: 12, middle: 280, lower: 316, bottom: height - 38 };
    const svg = add(clear(holder), "svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Accuracy and number of images by confidence" });
    const x = (value) => frame.left + value * (frame.right - frame.left);
    const y = (value) => frame.middle - value * (frame.middle - frame.top);
    for (const tick of [0, 0.25, 0.5, 0.75, 1]) {
      add(svg, "line", { class: "grid", x1: frame.left, x2: frame.right, y1: y(tick), y2: y(tick) });
      add(svg, "text", { class: "tick", x: frame.left - 7, y: y(tick) + 4, "text-anchor": "end" }, percent(tick, 0));
      add(svg, "text", { class: "tick", x: x(tick), y: frame.bottom + 16, "text-anchor": tick === 0 ? "start" : tick === 1 ? "end" : "middle" }, percent(tick, 0));
    }
    add(svg, "text", { class: "tick", x: frame.right, y: height - 4, "text-anchor": "end" }, "confidence (probability of the predicted class)");
    add(svg, "text", { class: "tick", x: frame.left, y: frame.lower - 14 }, "images per bin");
    add(svg, "line", { class: "axis", x1: frame.left, x2: frame.right, y1: frame.bottom, y2: frame.bottom });
    add(svg, "line", { class: "ideal", x1: x(0), y1: y(0), x2: x(1), y2: y(1) });
    const most = Math.max(...bins.map((bin) => bin.images));
    for (const bin of bins) if (bin.images) drawBin(svg, bin, x, y, frame, most);
  }
  function drawBin(svg, bin, x, y, frame, most) {
    const left = x(bin.low) + 1.5, wide = x(bin.high) - x(bin.low) - 3, middle = left + wide / 2;
    const what = `Confidence ${percent(bin.low, 0)} to ${percent(bin.high, 0)}: ${plural(bin.images, "image")}, accuracy ${percent(bin.accuracy)} (${percent(bin.accuracy_low)} to ${percent(bin.accuracy_high)}), mean confidence ${percent(bin.confidence)}`;
    const group = add(svg, "g", { class: bin.images < RELIABLE_BIN ? "bin few" : "bin", role: "button", tabindex: 0, "aria-label": what, onclick: () => onBin(bin), onkeydown: (event) => event.key === "Enter" && onBin(bin) });
    add(group, "title", {}, what);
    add(group, "rect", { class: "hit-area", x: x(bin.low), y: frame.top, width: x(bin.high) - x(bin.low), height: frame.bottom - frame.top });
    add(group, "rect", { class: "fill main", x: left, y: y(bin.accuracy), width: wide, height: y(0) - y(bin.accuracy) });
    add(group, "line", { class: "expected", x1: left, x2: left + wide, y1: y(bin.confidence), y2: y(bin.confidence) });
    add(group, "line", { class: "whisker", x1: middle, x2: middle, y1: y(bin.accuracy_low), y2: y(bin.accuracy_high) });
    const tall = (bin.images / most) * (frame.bottom - frame.lower);
    add(group, "rect", { class: "fill main faint", x: left, y: frame.bottom - tall, width: wide, height: Math.max(tall, 1) });
    add(group, "text", { class: "tick small", x: middle, y: frame.bottom - tall - 4, "text-anchor": "middle" }, shortCount(bin.images));
  }
}
