// SHA-256 as FIPS 180-4 tells it, for the key of ESSIV. Knows bytes only.

// Its constants are the first 32 bits behind the point of roots of primes, found in whole numbers.
function rootBits(prime, degree) {
  const target = BigInt(prime) << BigInt(32 * degree);
  let root = 0n;
  for (let bit = 36n; bit >= 0n; bit--) {
    const longer = root | (1n << bit);
    if (longer ** BigInt(degree) <= target) root = longer;
  }
  return Number(root & 0xffffffffn);
}

const PRIMES = [];
for (let n = 2; PRIMES.length < 64; n++) {
  if (PRIMES.every((prime) => n % prime)) PRIMES.push(n);
}
const ROUND_WORDS = PRIMES.map((prime) => rootBits(prime, 3)); // section 4.2.2: cube roots
const FIRST_HASH = PRIMES.slice(0, 8).map((prime) => rootBits(prime, 2)); // 5.3.3: square roots

function turn(word, bits) {
  return (word >>> bits) | (word << (32 - bits));
}

function sha256(message) {
  const size = (Math.floor((message.length + 8) / 64) + 1) * 64;
  const padded = new Uint8Array(size);
  padded.set(message);
  padded[message.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setBigUint64(size - 8, BigInt(8 * message.length));
  const hash = Uint32Array.from(FIRST_HASH);
  const w = new Uint32Array(64);
  for (let at = 0; at < size; at += 64) {
    for (let t = 0; t < 16; t++) w[t] = view.getUint32(at + 4 * t);
    for (let t = 16; t < 64; t++) {
      const low = turn(w[t - 15], 7) ^ turn(w[t - 15], 18) ^ (w[t - 15] >>> 3);
      const high = turn(w[t - 2], 17) ^ turn(w[t - 2], 19) ^ (w[t - 2] >>> 10);
      w[t] = w[t - 16] + low + w[t - 7] + high;
    }
    let [a, b, c, d, e, f, g, h] = hash;
    for (let t = 0; t < 64; t++) {
      const first = h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + ROUND_WORDS[t] + w[t];
      const second = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
      [h, g, f, e, d, c, b, a] = [g, f, e, (d + first) | 0, c, b, a, (first + second) | 0];
    }
    [a, b, c, d, e, f, g, h].forEach((word, i) => { hash[i] += word; });
  }
  const digest = new Uint8Array(32);
  hash.forEach((word, i) => new DataView(digest.buffer).setUint32(4 * i, word));
  return digest;
}
