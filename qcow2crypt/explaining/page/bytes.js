// The two panels of 512 bytes, the chain of blocks, and the sum of one block.

const BLOCKS = SECTOR / BLOCK;
const SIDES = ["plain", "cipher"];
const SIDE_NAMES = { plain: "plaintext", cipher: "ciphertext" };
const panels = { plain: null, cipher: null };

function printable(bytes) {
  return Array.from(bytes, (b) => (b > 31 && b < 127 ? String.fromCharCode(b) : "·")).join("");
}

function buildPanel(side) {
  const panel = { rows: [], bytes: [], texts: [] };
  for (let block = 0; block < BLOCKS; block++) {
    const row = make("div", { className: "row", role: "row" });
    row.append(make("span", { className: "nr", role: "rowheader", textContent: block }));
    row.firstChild.setAttribute("aria-label", `block ${block}`);
    for (let i = 0; i < BLOCK; i++) {
      const byte = make("span", { className: "byte choice", role: "gridcell", tabIndex: -1 });
      panel.bytes.push(byte);
      row.append(byte);
    }
    const text = make("span", { className: "text" });
    text.setAttribute("aria-hidden", "true");
    panel.texts.push(text);
    row.append(text);
    panel.rows.push(row);
  }
  byId(side).append(...panel.rows);
  panels[side] = panel;
}

function drawPanel(side) {
  const bytes = state[side];
  const panel = panels[side];
  byId(side).hidden = !bytes;
  if (!bytes) return;
  bytes.forEach((value, index) => {
    const cell = panel.bytes[index];
    const changed = differsAt(side, index);
    const isChosen = side === state.side && index === state.byte;
    cell.textContent = hexByte(value);
    cell.classList.toggle("changed", changed);
    cell.classList.toggle("edited", changed && side === state.keep);
    cell.setAttribute("aria-selected", String(isChosen));
    cell.tabIndex = isChosen || (side !== state.side && index === state.byte) ? 0 : -1;
    if (changed) {
      cell.setAttribute("aria-label", `${hexByte(value)}, was ${hexByte(state.before[side][index])}`);
    } else {
      cell.removeAttribute("aria-label");
    }
  });
  panel.rows.forEach((row, block) => {
    row.classList.toggle("chosen", block === state.block);
    panel.texts[block].textContent = printable(blockOf(bytes, block));
  });
}

// ---------------------------------------------------------------------------------- the chain

function buildChain() {
  for (const side of SIDES) {
    const blocks = make("div", { className: "blocks", id: `${side}-blocks`, role: "listbox" });
    blocks.setAttribute("aria-label", `Blocks of the ${SIDE_NAMES[side]}`);
    for (let block = 0; block < BLOCKS; block++) {
      blocks.append(make("div", { className: "cell choice", role: "option", tabIndex: -1 }));
    }
    const label = make("span", { textContent: side === "plain" ? "Plaintext" : "Ciphertext" });
    byId("chain").append(make("div", { className: "chain-row" }, label, blocks));
  }
  const swatches = [["·", "", "as in the image"], ["◐", "some", "changed in part"], ["●", "all", "all noise"]];
  byId("chain-legend").append(...swatches.map(([sign, look, words]) =>
    make("span", {}, make("span", { className: `cell ${look}`, textContent: sign }), words)));
}

function drawChain() {
  for (const side of SIDES) {
    const cells = [...byId(`${side}-blocks`).children];
    const known = Boolean(state[side]);
    cells.forEach((cell, block) => {
      const count = known ? changedInBlock(side, block) : 0;
      const look = count === 0 ? "" : count > 12 ? "all" : "some";
      cell.className = `cell choice ${look}`;
      cell.textContent = known ? { "": "·", some: "◐", all: "●" }[look] : "?";
      const words = count ? `${count} bytes changed` : "as in the image";
      cell.setAttribute("aria-label", `block ${block}, ${known ? words : "not known"}`);
    });
    markChosen(cells, state.block);
  }
}

function sub(letter, index) {
  return make("span", {}, letter, make("sub", { textContent: index }));
}

function sumRow(sign, name, about, bytes, before, total = false) {
  const row = make("div", { className: total ? "sum-row total" : "sum-row" });
  const words = make("span", {}, name, make("span", { className: "name", textContent: ` ${about}` }));
  row.append(make("span", { textContent: sign }), words);
  row.append(bytes ? drawBytes(bytes, before) : make("span", { textContent: "needs the passphrase" }));
  return row;
}

// The block before, or the IV.
function blockBefore(values, block) {
  return block ? blockOf(values.cipher, block - 1) : values.iv;
}

function drawSum() {
  const target = byId("sum");
  target.replaceChildren();
  if (!state.cipher) return;
  const { block, before } = state;
  const rows = {};
  for (const side of SIDES) {
    rows[side] = state[side] && blockOf(state[side], block);
    rows[`${side}Was`] = state[side] && before[side] && blockOf(before[side], block);
  }
  const chain = blockBefore(state, block);
  const chainWas = blockBefore(before, block);
  const middle = rows.plain && chain && xor(rows.plain, chain);
  const middleWas = rows.plainWas && xor(rows.plainWas, chainWas);
  const chainName = block ? sub("C", block - 1) : make("span", { textContent: "IV" });
  const chainAbout = block ? "ciphertext of the block before" : `made from the number ${state.number}`;
  const plain = (sign, total) => sumRow(sign, sub("P", block), "plaintext", rows.plain, rows.plainWas, total);
  const cipher = (sign, total) => sumRow(sign, sub("C", block), "ciphertext", rows.cipher, rows.cipherWas, total);
  const link = sumRow("⊕", chainName, chainAbout, chain, chainWas);
  if (state.keep === "plain") {
    target.append(plain("", false), link, sumRow("=", "X", "what AES is given", middle, middleWas, true),
      make("div", { className: "sum-aes", textContent: "↓ AES with the key" }), cipher("=", true));
  } else {
    target.append(cipher("", false), make("div", { className: "sum-aes", textContent: "↓ AES backwards, with the key" }),
      sumRow("=", "X", "what AES was given", middle, middleWas, true), link, plain("=", true));
  }
}

// ------------------------------------------------------------------------------ the chosen byte

function drawEditor() {
  const bytes = state[state.side];
  byId("editor").hidden = !bytes;
  if (!bytes) return;
  const value = bytes[state.byte];
  const inside = state.byte % BLOCK;
  byId("editor-about").textContent =
    `Byte ${inside} of ${SIDE_NAMES[state.side]} block ${state.block}: ${hexNumber(value)}`;
  [...byId("bits").children].forEach((button, i) => {
    const bit = 7 - i;
    const on = (value >> bit) & 1;
    button.textContent = on;
    button.setAttribute("aria-label", `bit ${hexNumber(1 << bit)}, now ${on}`);
    button.setAttribute("aria-pressed", String(Boolean(on)));
  });
  byId("undo").disabled = !differsAt(state.side, state.byte);
}
