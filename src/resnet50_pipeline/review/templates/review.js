"use strict";
// The page of `kedro review`: a grid of candidates and a large view of the current one. Each decision is sent to the
// server, which saves it before responding.
(async () => {
  const find = (id) => document.getElementById(id);
  const grid = find("grid"), input = find("class"), filter = find("filter");
  const data = await (await fetch("data")).json();
  const candidates = data.candidates, decisions = new Map();
  for (const [index, one] of Object.entries(data.decisions)) decisions.set(Number(index), one);
  const history = [];  // [index, previous decision], for undo
  let current = 0;
  let sending = Promise.resolve();
  const unsaved = new Map();

  const name = (label) => data.classes[label];
  const describe = (decision) =>
    !decision ? "" : decision.action === "relabel" ? `→ ${name(decision.label)}` : decision.action;

  const buttons = candidates.map((one, index) => {
    const item = document.createElement("li"), button = document.createElement("button");
    const image = document.createElement("img"), given = document.createElement("span");
    const decision = document.createElement("span");
    image.loading = "lazy";
    image.decoding = "async";
    image.alt = "";
    image.src = `thumbnail/${index}`;
    given.textContent = name(one.label) + (one.suggested === null ? "" : ` → ${name(one.suggested)}?`);
    decision.className = "decision";
    button.type = "button";
    button.tabIndex = -1;
    button.title = one.path;
    button.dataset.index = index;
    button.append(image, given, decision);
    item.append(button);
    return button;
  });

  // One listener for all images. Their load and error events do not bubble, so they are captured.
  document.addEventListener("load", ({ target }) => {
    if (target instanceof HTMLImageElement) target.classList.toggle("tiny", target.naturalWidth <= 64);
  }, true);
  grid.addEventListener("error", ({ target }) => { target.alt = "unreadable"; }, true);
  grid.addEventListener("click", ({ target }) => {
    const button = target.closest("button");
    if (button) select(Number(button.dataset.index));
  });

  const isShown = (index) => {
    const action = decisions.get(index)?.action ?? "open";
    return filter.value === "all" || filter.value === action;
  };

  function draw(index) {
    const button = buttons[index], decision = decisions.get(index);
    if (decision) button.dataset.decision = decision.action;
    else delete button.dataset.decision;
    button.querySelector(".decision").textContent = describe(decision);
    button.setAttribute("aria-label",
      `${name(candidates[index].label)}, ${candidates[index].path}, ${describe(decision) || "undecided"}`);
  }

  function drawProgress() {
    const saving = unsaved.size ? `, saving ${unsaved.size}` : "";
    const number = (value) => value.toLocaleString("en");
    find("progress").textContent =
      `${number(decisions.size)} of ${number(candidates.length)} reviewed${saving}; saved in ${data.file}`;
    find("bar").max = candidates.length;
    find("bar").value = decisions.size;
  }

  function select(index, focus = true) {
    buttons[current].removeAttribute("aria-current");
    buttons[current].tabIndex = -1;
    current = index;
    const one = candidates[index], button = buttons[index];
    button.setAttribute("aria-current", "true");
    button.tabIndex = 0;
    const large = find("large");
    large.src = `large/${index}`;
    large.alt = one.path;
    compare(one);
    find("classes").textContent =
      name(one.label) + (one.suggested === null ? "" : ` → ${name(one.suggested)}?`);
    find("reason").textContent = one.reason;
    find("path").textContent = `${one.path} (${one.split}, ${index + 1} of ${candidates.length.toLocaleString("en")})`;
    document.querySelector("[data-action=relabel]").disabled = one.suggested === null;
    input.value = "";
    if (focus) button.focus({ preventScroll: true });
    button.scrollIntoView({ block: "nearest" });
  }

  // Show the image that the findings compare the candidate with, if there is one, next to the candidate.
  function compare({ other, otherImage }) {
    const isPair = other !== null, shown = find("comparison");
    find("detail").classList.toggle("pair", isPair);
    find("large-caption").hidden = shown.hidden = !isPair;
    shown.replaceChildren();
    if (!isPair) return;
    const image = document.createElement("img"), caption = document.createElement("figcaption");
    image.id = "other";
    image.alt = other;
    image.src = `large/${otherImage}`;
    caption.textContent = `looks like ${other}`;
    shown.append(image, caption);
  }

  // The index of the next visible candidate in a direction, or -1.
  function step(from, by, isWanted = isShown) {
    for (let index = from + by; index >= 0 && index < candidates.length; index += by) {
      if (isWanted(index)) return index;
    }
    return -1;
  }

  function go(by) {
    const index = step(current, by);
    if (index >= 0) select(index);
  }

  function goToOpen() {
    const isOpen = (index) => !decisions.has(index);
    const index = step(current, 1, isOpen);
    const first = index >= 0 ? index : step(-1, 1, isOpen);
    if (first >= 0) select(first);
    return first >= 0;
  }

  function goByRow(by) {
    // Measure the list item instead of the button. Measuring a button outside the window would force its layout.
    const place = (index) => buttons[index].parentElement.getBoundingClientRect();
    const box = place(current);
    for (let index = step(current, by); index >= 0; index = step(index, by)) {
      const other = place(index);
      if (other.top !== box.top && Math.abs(other.left - box.left) < 2) return select(index);
    }
  }

  function set(index, decision) {
    if (decision) decisions.set(index, decision);
    else decisions.delete(index);
    draw(index);
    unsaved.set(index, { index, action: decision?.action ?? null, label: decision?.label ?? null });
    drawProgress();
    sending = sending.then(save);
  }

  // Send all unsaved decisions one by one. After a failure, the next decision sends the remaining ones again.
  async function save() {
    try {
      for (const [index, decision] of unsaved) {
        const answer = await fetch("decide", {
          method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(decision),
        });
        if (!answer.ok) throw new Error(await answer.text());
        if (unsaved.get(index) === decision) unsaved.delete(index);
      }
      find("error").hidden = true;
    } catch (error) {
      find("error").textContent =
        `Not saved: ${error.message}. Fix the problem; your next decision also saves this one. If kedro review has ` +
        "stopped, start it again and open the new address.";
      find("error").hidden = false;
    }
    drawProgress();
  }

  function decide(action, label = null) {
    const index = current;
    history.push([index, decisions.get(index)]);
    set(index, { action, label });
    if (step(current, 1) >= 0) go(1);
    else goToOpen();
  }

  function undo() {
    const last = history.pop();
    if (!last) return;
    set(last[0], last[1]);
    select(last[0]);
  }

  const actions = {
    keep: () => decide("keep"),
    drop: () => decide("drop"),
    relabel: () => {
      const { suggested, label } = candidates[current];
      if (suggested !== null && suggested !== label) decide("relabel", suggested);
      else input.focus();
    },
    move: () => data.canMove && decide("move"),
    undo,
  };
  const keys = {
    k: actions.keep, d: actions.drop, r: actions.relabel, m: actions.move, u: undo, c: () => input.focus(),
    n: () => go(1), p: () => go(-1), o: goToOpen, ArrowRight: () => go(1), ArrowLeft: () => go(-1),
    ArrowDown: () => goByRow(1), ArrowUp: () => goByRow(-1),
    Home: () => select(Math.max(step(-1, 1), 0)), End: () => select(Math.max(step(candidates.length, -1), 0)),
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target === filter) return;
    if (event.target === input) {
      if (event.key === "Escape") select(current);
      if (event.key === "Enter") chooseClass();
      return;
    }
    const act = keys[event.key] ?? keys[event.key.toLowerCase()];
    if (act) {
      event.preventDefault();
      act();
    }
  });

  function chooseClass() {
    const text = input.value.trim();
    const label = /^\d+$/.test(text) ? Number(text) : data.classes.indexOf(text);
    if (label < 0 || label >= data.classes.length || label === candidates[current].label) {
      input.setCustomValidity("Choose a different class from the list, or enter a label");
      input.reportValidity();
      return;
    }
    decide("relabel", label);
  }
  input.addEventListener("input", () => input.setCustomValidity(""));

  for (const button of document.querySelectorAll("[data-action]")) {
    button.addEventListener("click", () => actions[button.dataset.action]());
  }
  document.querySelector("[data-action=move]").hidden = !data.canMove;
  filter.addEventListener("change", () => {
    buttons.forEach((button, index) => { button.parentElement.hidden = !isShown(index); });
    if (!isShown(current)) {
      const index = step(-1, 1);
      if (index >= 0) select(index, false);
    }
  });
  window.addEventListener("beforeunload", (event) => { if (unsaved.size) event.preventDefault(); });

  find("class-names").append(...data.classes.map((text) => new Option(text)));
  buttons.forEach((_, index) => draw(index));
  grid.append(...buttons.map((button) => button.parentElement));
  drawProgress();
  current = 0;
  if (decisions.has(0)) goToOpen() || select(0);
  else select(0);
  document.body.dataset.ready = "true";
})();
