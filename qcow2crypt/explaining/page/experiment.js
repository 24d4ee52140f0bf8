// One sector and what is tried on it: the state of the page, and what differs from the image.
// Knows bytes, numbers and keys; draws nothing.

const state = {
  sector: 0,
  key: null,
  stored: null, // the ciphertext of the image
  number: 0n, // the number that makes the IV
  generator: "plain64",
  keep: "cipher",
  cipher: null,
  plain: null,
  iv: null,
  before: null, // cipher, plain and iv as in the image
  block: 0,
  byte: 0,
  side: "cipher",
};

function chooseSector(sector) {
  state.sector = Math.min(Math.max(sector, 0), sectorCount - 1);
  state.stored = storedSector(state.sector);
  state.block = 0;
  state.byte = 0;
  backToImage();
}

function backToImage() {
  state.number = BigInt(state.sector);
  state.generator = "plain64";
  state.keep = "cipher";
  state.cipher = state.stored?.slice() ?? null;
  state.before = { cipher: state.stored, plain: null, iv: plain64(state.number) };
  compute();
  state.before.plain = state.plain?.slice() ?? null;
}

function setKey(key) {
  state.key = key;
  if (!key) state.side = "cipher";
  backToImage();
}

// What is kept stays; the other side follows.
function compute() {
  state.iv = makeIv(state.generator, state.number, state.key);
  if (!state.key || !state.cipher) {
    state.plain = null;
  } else if (state.keep === "cipher") {
    state.plain = cbcDecrypt(state.cipher, state.key, state.iv);
  } else {
    state.cipher = cbcEncrypt(state.plain, state.key, state.iv);
  }
}

function keepSide(side) {
  state.keep = side === "plain" && state.plain ? "plain" : "cipher";
}

// Writes one byte on one side. What was changed on the other side so far is kept as it came out.
function setByte(side, index, value) {
  if (!state[side]) return;
  keepSide(side);
  state[side][index] = value;
  compute();
}

function differsAt(side, index) {
  const before = state.before[side];
  return Boolean(before && state[side]) && before[index] !== state[side][index];
}

function changedInBlock(side, block) {
  let count = 0;
  for (let i = 0; i < BLOCK; i++) count += differsAt(side, BLOCK * block + i);
  return count;
}

function changedInIv() {
  if (!state.iv) return BLOCK;
  return state.iv.filter((byte, i) => byte !== state.before.iv[i]).length;
}

// "block 3 in 16 bytes: noise, block 4 in byte 5 (bits 0x04)"
function changesOf(side) {
  const found = [];
  for (let block = 0; block < SECTOR / BLOCK; block++) {
    const count = changedInBlock(side, block);
    if (count) found.push({ block, count });
  }
  const many = found.length > 3;
  if (many) {
    const bytes = found.reduce((sum, one) => sum + one.count, 0);
    return `${bytes} bytes in ${found.length} blocks, from block ${found[0].block} to ${found.at(-1).block}`;
  }
  return found.map(({ block, count }) => `block ${block} in ${howMuch(side, block, count)}`).join(", ");
}

function howMuch(side, block, count) {
  if (count > 1) return count > 12 ? `${count} bytes: noise` : `${count} bytes`;
  const start = BLOCK * block;
  for (let i = start; i < start + BLOCK; i++) {
    if (!differsAt(side, i)) continue;
    const bits = state[side][i] ^ state.before[side][i];
    return `byte ${i - start} (bits 0x${hexByte(bits)})`;
  }
  return "";
}

function tellChanges() {
  if (!state.cipher) return "";
  const parts = [];
  if (changedInIv()) parts.push("The IV is another one.");
  for (const [side, name] of [["cipher", "Ciphertext"], ["plain", "Plaintext"]]) {
    if (!state[side]) continue;
    const changes = changesOf(side);
    if (changes) parts.push(`${name} changed: ${changes}.`);
    else if (parts.length) parts.push(`${name} as in the image.`);
  }
  return parts.join(" ") || "All as in the image.";
}
