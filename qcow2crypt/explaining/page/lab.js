// What the IV is made of, and the comparison of the ways to make one.

const GENERATOR_NAMES = {
  none: ["none", "no IV: 16 zero bytes for every sector"],
  plain64: ["plain64", "the number as it is: this image"],
  essiv: ["essiv", "plain64, encrypted under a hash of the key"],
};
const SHOWN_OF_BLOCK = 8;

function ivRow(name, ...content) {
  return make("div", { className: "iv-row" }, make("span", { textContent: name }), make("div", {}, ...content));
}

function braced(row, low, high) {
  row.append(make("span", { className: "brace low-brace", textContent: low }));
  row.append(make("span", { className: "brace", textContent: high }));
  return row;
}

function drawIv() {
  const rows = [ivRow("Number", `${state.number} = ${hexNumber(state.number)}`)];
  const numberBytes = () => braced(drawBytes(plain64(state.number), null, 8),
    "the number, lowest byte first", "8 zero bytes");
  if (state.generator === "none") {
    rows.push(ivRow("IV", drawBytes(state.iv, state.before.iv), "The number is not used at all."));
  } else if (state.generator === "plain64") {
    const shown = drawBytes(state.iv, state.before.iv, 8);
    rows.push(ivRow("IV", braced(shown, "the number, lowest byte first", "8 zero bytes")));
  } else {
    rows.push(ivRow("plain64", numberBytes()), ivRow("Key of the IV", "SHA-256 of the key, 32 bytes"));
    rows.push(ivRow("IV = AES-256 of it", state.iv ? drawBytes(state.iv, state.before.iv) : "needs the passphrase"));
  }
  byId("iv").replaceChildren(...rows);
}

// ------------------------------------------------------------------------------- the comparison

function firstBlock(generator, number, block) {
  const iv = makeIv(generator, number, state.key);
  return encryptBlock(xor(block, iv), expandKey(state.key));
}

function sameBytes(a, b) {
  return a.every((byte, i) => byte === b[i]);
}

function verdict(equal) {
  const text = equal ? "equal ciphertext: it is seen" : "different ciphertext: nothing is seen";
  return make("span", { className: equal ? "verdict bad" : "verdict", textContent: text });
}

// The same block in both sectors, and one that is XORed with the plain64 IV of each beforehand.
function comparison(generator, numbers, block) {
  const ivs = numbers.map((number) => makeIv(generator, number, state.key));
  if (!state.key || !block) return { ivs, same: null, shaped: null };
  const same = numbers.map((number) => firstBlock(generator, number, block));
  const shaped = numbers.map((number) => firstBlock(generator, number, xor(block, plain64(number))));
  return { ivs, same, shaped };
}

function comparedRow(pair) {
  if (!pair) return [make("dd", { textContent: "needs the passphrase, and a sector that is stored" })];
  return [make("dd", {}, verdict(sameBytes(...pair))),
    ...pair.map((bytes) => make("dd", {}, drawBytes(bytes.slice(0, SHOWN_OF_BLOCK))))];
}

function drawCompare() {
  const numbers = [BigInt(state.sector), readNumber(byId("other").value, SECTOR_NUMBER_MAX) ?? 0n];
  const block = state.before.plain && blockOf(state.before.plain, 0);
  byId("generators").replaceChildren(...GENERATORS.map((generator) => {
    const [name, about] = GENERATOR_NAMES[generator];
    const found = comparison(generator, numbers, block);
    const rows = numbers.flatMap((number, i) => [
      make("dt", { textContent: `IV of sector ${number}` }),
      make("dd", {}, found.ivs[i] ? drawBytes(found.ivs[i]) : "needs the passphrase")]);
    rows.push(make("dt", { textContent: "The same data in both, first 8 bytes" }), ...comparedRow(found.same));
    rows.push(make("dt", { textContent: "Data shaped for plain64" }), ...comparedRow(found.shaped));
    return make("article", { className: "card gen" }, make("h3", { textContent: name }),
      make("p", { className: "soft", textContent: about }), make("dl", {}, ...rows));
  }));
}
