// AES, one block at a time, as FIPS-197 tells it: no table is pasted, all are computed.
// Knows blocks and keys of 16, 24 and 32 bytes. Slow and not constant time: it is here to be read.

const BLOCK = 16;

// Bytes are polynomials over GF(2), section 4.2: to add is XOR, to multiply is to shift and add.
function times2(byte) {
  return ((byte << 1) ^ (byte & 0x80 ? 0x11b : 0)) & 0xff;
}

function multiply(a, b) {
  let product = 0;
  for (; b; b >>= 1, a = times2(a)) {
    if (b & 1) product ^= a;
  }
  return product;
}

// The S-box, section 5.1.1: the inverse in the field (0 stays 0), then the affine map.
function makeSbox() {
  const box = new Uint8Array(256);
  for (let byte = 0; byte < 256; byte++) {
    let inverse = 1;
    for (let i = 0; i < 254; i++) inverse = multiply(inverse, byte); // byte^254 is 1 / byte
    let mixed = inverse;
    for (let turn = 1; turn <= 4; turn++) mixed ^= (inverse << turn) | (inverse >> (8 - turn));
    box[byte] = (mixed & 0xff) ^ 0x63;
  }
  return box;
}

const SBOX = makeSbox();
const INVERSE_SBOX = new Uint8Array(256);
SBOX.forEach((value, byte) => { INVERSE_SBOX[value] = byte; });

// KeyExpansion, section 5.2: one list of words of four bytes, four of them for each round key.
function expandKey(key) {
  const length = key.length / 4;
  if (![4, 6, 8].includes(length)) throw new Error("an AES key has 16, 24 or 32 bytes");
  const rounds = length + 6;
  const words = [];
  let constant = 1;
  for (let i = 0; i < 4 * (rounds + 1); i++) {
    if (i < length) {
      words.push([...key.slice(4 * i, 4 * i + 4)]);
      continue;
    }
    let word = words[i - 1];
    if (i % length === 0) {
      word = [...word.slice(1), word[0]].map((byte) => SBOX[byte]);
      word[0] ^= constant;
      constant = times2(constant);
    } else if (length > 6 && i % length === 4) {
      word = word.map((byte) => SBOX[byte]);
    }
    words.push(word.map((byte, row) => byte ^ words[i - length][row]));
  }
  return { rounds, bytes: Uint8Array.from(words.flat()) };
}

function addRoundKey(state, schedule, round) {
  for (let i = 0; i < BLOCK; i++) state[i] ^= schedule.bytes[BLOCK * round + i];
}

// The state is filled column by column: byte i stands in row i % 4 of column i >> 2.
// Row r turns r places to the left; with step = -1 to the right.
function shiftRows(state, step) {
  const old = state.slice();
  for (let i = 0; i < BLOCK; i++) state[i] = old[(i + 4 * step * (i % 4) + 64) % BLOCK];
}

function mixColumns(state, row) {
  const old = state.slice();
  for (let i = 0; i < BLOCK; i++) {
    const column = i & ~3;
    state[i] = 0;
    for (let k = 0; k < 4; k++) state[i] ^= multiply(old[column + k], row[(k - (i % 4) + 4) % 4]);
  }
}

function substitute(state, box) {
  for (let i = 0; i < BLOCK; i++) state[i] = box[state[i]];
}

// Cipher, section 5.1.
function encryptBlock(block, schedule) {
  const state = Uint8Array.from(block);
  addRoundKey(state, schedule, 0);
  for (let round = 1; round <= schedule.rounds; round++) {
    substitute(state, SBOX);
    shiftRows(state, 1);
    if (round < schedule.rounds) mixColumns(state, [2, 3, 1, 1]);
    addRoundKey(state, schedule, round);
  }
  return state;
}

// InvCipher, section 5.3: the same steps undone, from the last to the first.
function decryptBlock(block, schedule) {
  const state = Uint8Array.from(block);
  for (let round = schedule.rounds; round >= 1; round--) {
    addRoundKey(state, schedule, round);
    if (round < schedule.rounds) mixColumns(state, [14, 11, 13, 9]);
    shiftRows(state, -1);
    substitute(state, INVERSE_SBOX);
  }
  addRoundKey(state, schedule, 0);
  return state;
}
