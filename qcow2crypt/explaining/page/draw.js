// Small helpers to draw with: elements, bytes, lists with one stop for the Tab key.
// All text goes in as text, never as HTML.

function byId(id) {
  return document.getElementById(id);
}

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// What differs from `before` is marked, for eyes and for ears.
function drawBytes(bytes, before = null, lowCount = 0) {
  const row = make("div", { className: "bytes" });
  bytes.forEach((byte, i) => {
    const cell = make("span", { textContent: hexByte(byte) });
    if (before && before[i] !== byte) cell.className = "changed";
    else if (i < lowCount) cell.className = "low";
    row.append(cell);
  });
  return row;
}

// How many cells stand in the first row of a grid.
function columnsOf(cells) {
  const top = cells[0]?.offsetTop;
  const columns = cells.findIndex((cell) => cell.offsetTop !== top);
  return columns < 0 ? cells.length : columns;
}

const STEPS = {
  ArrowRight: () => 1,
  ArrowLeft: () => -1,
  ArrowDown: columnsOf,
  ArrowUp: (cells) => -columnsOf(cells),
  Home: (cells) => -cells.length,
  End: (cells) => cells.length,
};

// Arrow keys and clicks in a list of cells; one cell can be reached by Tab. `choose` gets the place.
function makeChoosable(list, choose) {
  const cellsOf = () => [...list.querySelectorAll(".choice")];
  list.addEventListener("click", (event) => {
    const place = cellsOf().indexOf(event.target.closest(".choice"));
    if (place >= 0) choose(place);
  });
  list.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    const cells = cellsOf();
    const from = cells.indexOf(event.target.closest(".choice"));
    if (!step || from < 0 || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const to = Math.min(Math.max(from + step(cells), 0), cells.length - 1);
    choose(to);
    cellsOf()[to]?.focus();
  });
}

function markChosen(cells, chosen) {
  cells.forEach((cell, place) => {
    cell.setAttribute("aria-selected", String(place === chosen));
    cell.tabIndex = place === chosen || (chosen < 0 && place === 0) ? 0 : -1;
  });
}

// A whole number as people write it, decimal or 0x...; null for what is none or too large.
function readNumber(text, most) {
  const clean = text.trim().toLowerCase();
  if (!/^(\d+|0x[0-9a-f]+)$/.test(clean)) return null;
  const number = BigInt(clean);
  return number <= BigInt(most) ? number : null;
}

function onNumber(input, { value, most, set, wrong }) {
  const take = (number) => {
    input.setAttribute("aria-invalid", String(number === null));
    if (wrong) wrong.textContent = number === null ? `0 to ${most}, or 0x…` : "";
    if (number !== null) set(number);
  };
  input.addEventListener("change", () => take(readNumber(input.value, most)));
  input.addEventListener("keydown", (event) => {
    const step = { ArrowUp: 1n, ArrowDown: -1n }[event.key];
    if (event.key === "Enter") take(readNumber(input.value, most));
    if (!step) return;
    event.preventDefault();
    const next = BigInt(value()) + step;
    if (next >= 0n && next <= BigInt(most)) take(next);
  });
}
