// From a passphrase and a sector number to a sector: key, IV, CBC. Knows no image and no page.

const SECTOR = 512;
const SECTOR_NUMBER_MAX = 2n ** 64n - 1n;
const GENERATORS = ["none", "plain64", "essiv"];

// The bytes of the passphrase, cut or filled with zeros to 16. That is the whole key derivation.
function passphraseToKey(passphrase) {
  const key = new Uint8Array(16);
  key.set(new TextEncoder().encode(passphrase).slice(0, 16));
  return key;
}

// The number as 64 bits, lowest byte first, then 8 zero bytes.
function plain64(number) {
  const iv = new Uint8Array(BLOCK);
  new DataView(iv.buffer).setBigUint64(0, BigInt(number), true);
  return iv;
}

// essiv:sha256 encrypts plain64 with AES-256 under the SHA-256 of the key.
function essiv(number, key) {
  return encryptBlock(plain64(number), expandKey(sha256(key)));
}

function makeIv(generator, number, key) {
  if (generator === "none") return new Uint8Array(BLOCK);
  if (generator === "plain64") return plain64(number);
  if (generator === "essiv") return key ? essiv(number, key) : null;
  throw new Error(`there is no IV generator '${generator}'`);
}

function xor(a, b) {
  return Uint8Array.from(a, (byte, i) => byte ^ b[i]);
}

function blockOf(bytes, index) {
  return bytes.slice(BLOCK * index, BLOCK * (index + 1));
}

// C[i] = E(P[i] xor C[i-1]); the IV stands in for the block before the first.
function cbcEncrypt(plain, key, iv) {
  const schedule = expandKey(key);
  const cipher = new Uint8Array(plain.length);
  let before = iv;
  for (let i = 0; i < plain.length / BLOCK; i++) {
    before = encryptBlock(xor(blockOf(plain, i), before), schedule);
    cipher.set(before, BLOCK * i);
  }
  return cipher;
}

// P[i] = D(C[i]) xor C[i-1].
function cbcDecrypt(cipher, key, iv) {
  const schedule = expandKey(key);
  const plain = new Uint8Array(cipher.length);
  let before = iv;
  for (let i = 0; i < cipher.length / BLOCK; i++) {
    const block = blockOf(cipher, i);
    plain.set(xor(decryptBlock(block, schedule), before), BLOCK * i);
    before = block;
  }
  return plain;
}
