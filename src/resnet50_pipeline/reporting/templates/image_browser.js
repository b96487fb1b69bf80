"use strict";
// The browser of evaluated images: filters, order, pages, keys and a view of a single image.

const PAGE_SIZE = 24;
const UNIT = 1e6;
const NO_FILTER = { outcome: "all", label: -1, predicted: -1, low: 0, high: 1, text: "", side: "all" };

function makeImageBrowser(section, classes, images) {
  const size = images.path.length;
  const hasThumbnails = Object.keys(images.thumbnails).length;
  const isPartial = hasThumbnails < size;
  const order = isPartial ? "thumbnail" : "confident";
  let filter = { ...NO_FILTER, outcome: "wrong" }, sort = order, page = 0, found = [], origin = null;
  const isWrong = (row) => images.label[row] !== images.predicted[row];
  const path = (row) => images.path[row];

  const form = add(section, "form", { class: "filters", onsubmit: (event) => event.preventDefault() });
  const fields = {
    outcome: choice("predictions", [["wrong", "wrong"], ["right", "correct"], ["all", "all"]]),
    label: choice("true class", classOptions()),
    predicted: choice("predicted class", classOptions()),
    low: input("min. confidence, %", { type: "number", min: 0, max: 100, step: "any", value: 0 }),
    high: input("max. confidence, %", { type: "number", min: 0, max: 100, step: "any", value: 100 }),
    text: input("text in class or path", { type: "search", placeholder: "any" }),
    ...(images.rival ? { side: choice("changed sides", [["all", "any"], ["changed", "changed"], ["gained", "only this model correct"], ["lost", "only the other model correct"]]) } : {}),
    sort: choice("order", [
      ...(isPartial ? [["thumbnail", "thumbnails first"]] : []),
      ["confident", "most confident"], ["unsure", "least confident"], ["unlikely", "true class unlikely"],
      ["path", "path"], ["label", "true class"], ["predicted", "predicted class"],
    ]),
  };
  const bar = add(section, "div", { class: "controls status" });
  const status = add(bar, "span", { role: "status" });
  const clearButton = add(bar, "button", { type: "button", onclick: () => show({ outcome: "wrong" }) }, "Clear filters");
  const backButton = add(bar, "button", { type: "button", hidden: true, onclick: goBack }, "Back");
  const gallery = add(section, "ul", { class: "gallery", onkeydown: onGalleryKey });
  const pager = add(section, "div", { class: "controls pager" });
  const earlier = add(pager, "button", { type: "button", onclick: () => turn(-1) }, "Previous");
  const position = add(pager, "span", { class: "quiet" });
  const later = add(pager, "button", { type: "button", onclick: () => turn(1) }, "Next");
  add(section, "p", { class: "quiet hint" }, "Keys: arrows move between images and pages, Enter opens an image, Escape closes it.");
  const dialog = add(section, "dialog", { class: "single", onclick: (event) => event.target === dialog && dialog.close() });
  let opened = 0;
  dialog.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (move && found[opened + move] !== undefined) open(opened + move);
  });
  dialog.addEventListener("close", () => focusCard(opened % PAGE_SIZE));
  fields.sort.value = sort;
  update();
  return { show };

  function choice(label, options) {
    const select = add(add(form, "label", {}, label), "select", { onchange: read });
    for (const [value, text] of options) add(select, "option", { value }, text);
    return select;
  }
  function input(label, attributes) {
    return add(add(form, "label", {}, label), "input", { ...attributes, oninput: read });
  }
  function classOptions() {
    return [["-1", "any"], ...classes.name.map((name, id) => [String(id), name])];
  }
  function read() {
    const bound = (field, otherwise) => (field.value === "" || !Number.isFinite(Number(field.value)) ? otherwise : Number(field.value) / 100);
    filter = {
      ...filter,
      outcome: fields.outcome.value, label: Number(fields.label.value), predicted: Number(fields.predicted.value),
      low: bound(fields.low, 0), high: bound(fields.high, 1), text: fields.text.value.trim().toLowerCase(),
      side: fields.side ? fields.side.value : "all",
    };
    sort = fields.sort.value;
    page = 0;
    update();
  }
  // Show the images that match the given filters, and scroll to them. `from` is the section that the reader came from.
  function show(wanted, from = null) {
    filter = { ...NO_FILTER, ...wanted };
    fields.outcome.value = filter.outcome;
    fields.label.value = String(filter.label);
    fields.predicted.value = String(filter.predicted);
    fields.low.value = String(Number((100 * filter.low).toFixed(4)));
    fields.high.value = String(Number((100 * filter.high).toFixed(4)));
    fields.text.value = filter.text;
    if (fields.side) fields.side.value = filter.side;
    page = 0;
    origin = from;
    backButton.hidden = from === null;
    if (from) backButton.textContent = `Back to ${from.querySelector("h2").textContent}`;
    update();
    if (from) section.scrollIntoView({ behavior: "auto" });
  }
  function goBack() {
    origin.scrollIntoView({ behavior: "auto" });
    backButton.hidden = true;
  }
  function select() {
    const inName = filter.text ? classes.name.map((name, id) => `${name} ${classes.synset[id]}`.toLowerCase().includes(filter.text)) : null;
    const low = Math.round(filter.low * UNIT), high = Math.round(filter.high * UNIT);
    const rows = [];
    for (let row = 0; row < size; row += 1) {
      const label = images.label[row], predicted = images.predicted[row], sure = images.probability[row];
      if (filter.outcome !== "all" && (label !== predicted) !== (filter.outcome === "wrong")) continue;
      if (filter.label >= 0 && label !== filter.label) continue;
      if (filter.predicted >= 0 && predicted !== filter.predicted) continue;
      if ((sure <= low && low > 0) || sure > Math.max(high, filter.high >= 1 ? UNIT * 2 : 0)) continue;
      if (filter.side !== "all" && images.rival[row] < 0) continue;
      if (filter.side === "gained" || filter.side === "lost") {
        if ((label === predicted) !== (filter.side === "gained")) continue;
      }
      if (inName && !inName[label] && !inName[predicted] && !path(row).toLowerCase().includes(filter.text)) continue;
      rows.push(row);
    }
    return rows;
  }
  function compare() {
    const sure = (a, b) => images.probability[b] - images.probability[a] || a - b;
    const has = (row) => (images.thumbnails[row] === undefined ? 1 : 0);
    return {
      thumbnail: (a, b) => has(a) - has(b) || isWrong(b) - isWrong(a) || sure(a, b),
      confident: sure,
      unsure: (a, b) => images.probability[a] - images.probability[b] || a - b,
      unlikely: (a, b) => images.trueProbability[a] - images.trueProbability[b] || sure(a, b),
      path: (a, b) => (images.path[a] < images.path[b] ? -1 : 1),
      label: (a, b) => images.label[a] - images.label[b] || sure(a, b),
      predicted: (a, b) => images.predicted[a] - images.predicted[b] || sure(a, b),
    }[sort];
  }
  function update() {
    found = select().sort(compare());
    draw();
  }
  function draw() {
    const pages = Math.max(1, Math.ceil(found.length / PAGE_SIZE));
    page = Math.min(Math.max(page, 0), pages - 1);
    const rows = found.slice(page * PAGE_SIZE, (page + 1) * PAGE_SIZE);
    status.textContent = `${plural(found.length, "image")} of ${count(size)}`;
    const isDefault = Object.entries(NO_FILTER).every(([name, value]) => name === "outcome" || filter[name] === value);
    clearButton.hidden = isDefault && filter.outcome === "wrong";
    clear(gallery).append(...rows.map((row, index) => card(row, page * PAGE_SIZE + index)));
    if (!rows.length) add(gallery, "li", { class: "quiet none" }, hasMistakes() || filter.outcome !== "wrong" ? "No image matches the filters." : "All images were classified correctly.");
    pager.hidden = pages === 1;
    position.textContent = `page ${count(page + 1)} of ${count(pages)}`;
    earlier.disabled = page === 0;
    later.disabled = page === pages - 1;
  }
  function hasMistakes() {
    return images.label.some((label, row) => label !== images.predicted[row]);
  }
  function turn(by, card = null) {
    page += by;
    draw();
    if (card !== null) focusCard(card);
  }
  function picture(row, kind) {
    if (images.thumbnails[row] === undefined) {
      return add(null, "span", { class: `${kind} unread` }, images.problems[row] || "no thumbnail");
    }
    const image = add(null, "img", { class: kind, alt: path(row), src: `data:image/webp;base64,${images.thumbnails[row]}` });
    image.addEventListener("load", () => image.classList.toggle("tiny", Math.max(image.naturalWidth, image.naturalHeight) <= 64));
    return image;
  }
  function card(row, index) {
    const predicted = classes.name[images.predicted[row]], label = classes.name[images.label[row]];
    const sure = percent(images.probability[row] / UNIT);
    const names = isWrong(row)
      ? [name("wrong", "✗", predicted, sure), name("right", "✓", label, trueShare(row))]
      : [name("right", "✓", label, sure)];
    const button = add(null, "button", { type: "button", class: "card", title: path(row), onclick: () => open(index) }, picture(row, "thumb"), ...names);
    add(button, "span", { class: "path" }, path(row).split("/").pop());
    return add(null, "li", {}, button);
  }
  function name(tone, sign, text, share) {
    return add(null, "span", { class: "names" }, add(null, "span", { class: tone }, `${sign} ${text}`), add(null, "span", { class: "quiet" }, ` ${share}`));
  }
  function trueShare(row) {
    return images.trueProbability[row] < 0 ? "not in the top 5" : percent(images.trueProbability[row] / UNIT);
  }
  function open(index) {
    opened = index;
    page = Math.floor(index / PAGE_SIZE);
    draw();
    const row = found[index];
    clear(dialog).append(picture(row, "large"));
    const facts = add(dialog, "div", { class: "about" });
    add(facts, "p", { class: "names" }, isWrong(row) ? "wrong: " : "correct: ", add(null, "b", {}, classes.name[images.predicted[row]]), isWrong(row) ? ` instead of ${classes.name[images.label[row]]}` : "");
    if (images.rival && images.rival[row] >= 0) add(facts, "p", { class: "names" }, `The other model predicted ${classes.name[images.rival[row]]}.`);
    const [ids, shares] = images.top[row] || [[images.predicted[row]], [images.probability[row]]];
    ids.forEach((id, rank) => {
      const line = add(facts, "div", { class: "top-line" });
      add(line, "span", { class: id === images.label[row] ? "right" : "" }, classes.name[id]);
      add(add(line, "span", { class: "bar" }), "span").style.width = `${(100 * shares[rank]) / UNIT}%`;
      add(line, "span", { class: "n" }, percent(shares[rank] / UNIT));
    });
    add(facts, "p", { class: "path" }, path(row));
    const controls = add(facts, "div", { class: "controls" });
    add(controls, "button", { type: "button", disabled: index === 0, onclick: () => open(index - 1) }, "Previous");
    add(controls, "button", { type: "button", disabled: index === found.length - 1, onclick: () => open(index + 1) }, "Next");
    add(controls, "button", { type: "button", onclick: () => dialog.close() }, "Close");
    if (!dialog.open) dialog.showModal();
  }
  function focusCard(index) {
    const cards = gallery.querySelectorAll(".card");
    cards[Math.min(index, cards.length - 1)]?.focus();
  }
  function onGalleryKey(event) {
    const cards = [...gallery.querySelectorAll(".card")];
    const at = cards.indexOf(document.activeElement);
    if (at < 0) return;
    const columns = getComputedStyle(gallery).gridTemplateColumns.split(" ").length;
    const to = at + ({ ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key] || 0);
    if (event.key === "PageDown" || (event.key === "ArrowRight" && to >= cards.length)) {
      if (!later.disabled) turn(1, 0);
    } else if (event.key === "PageUp" || (event.key === "ArrowLeft" && to < 0)) {
      if (!earlier.disabled) turn(-1, event.key === "PageUp" ? 0 : PAGE_SIZE - 1);
    } else if (to !== at && cards[to]) cards[to].focus();
    else return;
    event.preventDefault();
  }
}
