// Puts the parts together: what is drawn when, and what a click or a key does.

function drawSector() {
  const { sector } = state;
  byId("sector-input").value = sector;
  byId("sector-before").disabled = sector === 0;
  byId("sector-after").disabled = sector === sectorCount - 1;
  drawStrip(sector);
  drawTrace(sector);
  const stored = Boolean(state.stored);
  byId("sector-about").textContent = stored ? "" : whyNothingStored(sector);
  for (const id of ["chain", "sum", "bytes"]) byId(id).hidden = !stored;
  byId("other").value = Math.min(sector + 1, sectorCount - 1);
}

function drawLab() {
  byId("number").value = state.number;
  for (const input of document.querySelectorAll("#generator input, #keep input")) {
    input.checked = input.value === state[input.name];
  }
  document.querySelector("#keep input[value=plain]").disabled = !state.plain;
  document.querySelector("#generator input[value=essiv]").disabled = !state.key;
  byId("plain-none").hidden = Boolean(state.plain) || !state.cipher;
  drawIv();
  drawChain();
  drawSum();
  SIDES.forEach(drawPanel);
  drawEditor();
  const text = tellChanges();
  if (byId("changes").textContent !== text) byId("changes").textContent = text;
}

function drawKey() {
  const given = image.key !== null && state.key !== null;
  byId("key-about").textContent = given
    ? "The key is written into this page: whoever has the page can read the image."
    : "This page holds no key and no plaintext: only what stands in the file, encrypted.";
  byId("key-form").hidden = given;
  byId("key-forget").hidden = !state.key;
  const shows = given || byId("key-show").getAttribute("aria-pressed") === "true";
  byId("key-show").hidden = given || !state.key;
  byId("key-shown").textContent = state.key && shows
    ? `Key: ${Array.from(state.key, hexByte).join(" ")}  (as text: ${printable(state.key)})` : "";
}

function goTo(sector) {
  chooseSector(sector);
  if (!state.plain) state.side = "cipher";
  drawSector();
  drawLab();
  drawCompare();
}

function goToAll(sector) {
  goTo(sector);
  chooseInMaps(state.sector);
}

function tryOut(change) {
  change();
  compute();
  drawLab();
}

function useKey(key) {
  setKey(key);
  state.side = key && state.plain ? "plain" : "cipher";
  drawKey();
  drawLab();
  drawCompare();
}

// ----------------------------------------------------------------------------------- what is heard

function onByte(side, index) {
  state.side = side;
  state.byte = index;
  state.block = Math.floor(index / BLOCK);
  drawLab();
}

function onBlock(block) {
  state.block = block;
  state.byte = BLOCK * block;
  drawLab();
}

function write(value) {
  setByte(state.side, state.byte, value);
  drawLab();
}

function onBytesKey(event) {
  const cell = event.target.closest(".byte");
  if (!cell || event.ctrlKey || event.altKey || event.metaKey) return;
  const value = state[state.side]?.[state.byte];
  if (/^[0-9a-fA-F]$/.test(event.key)) write(((value << 4) | parseInt(event.key, 16)) & 0xff);
  else if (event.key === " ") write(value ^ 1);
  else if (event.key === "Delete" || event.key === "Backspace") putBack();
  else return;
  event.preventDefault();
}

function putBack() {
  write(state.before[state.side][state.byte]);
}

function listenToLab() {
  for (const side of SIDES) {
    makeChoosable(byId(side), (index) => onByte(side, index));
    byId(side).addEventListener("keydown", onBytesKey);
    makeChoosable(byId(`${side}-blocks`), onBlock);
  }
  for (let bit = 7; bit >= 0; bit--) {
    const button = make("button", { type: "button" });
    button.addEventListener("click", () => write(state[state.side][state.byte] ^ (1 << bit)));
    byId("bits").append(button);
  }
  byId("undo").addEventListener("click", putBack);
  byId("reset").addEventListener("click", () => { backToImage(); drawLab(); });
  for (const generator of GENERATORS) {
    const input = make("input", { type: "radio", name: "generator", value: generator });
    byId("generator").append(make("label", {}, input, ` ${GENERATOR_NAMES[generator][0]}`));
  }
  byId("generator").addEventListener("change", (event) => tryOut(() => { state.generator = event.target.value; }));
  byId("keep").addEventListener("change", (event) => tryOut(() => keepSide(event.target.value)));
  const setNumber = (number) => tryOut(() => { state.number = number; });
  const step = (by) => () => {
    const number = state.number + by;
    if (number >= 0n && number <= SECTOR_NUMBER_MAX) setNumber(number);
  };
  byId("number-less").addEventListener("click", step(-1n));
  byId("number-more").addEventListener("click", step(1n));
  onNumber(byId("number"), {
    value: () => state.number, most: SECTOR_NUMBER_MAX, set: setNumber, wrong: byId("number-wrong"),
  });
}

function listenToPlaces() {
  makeChoosable(byId("disk-map"), (place) => goToAll(firstStoredIn(image.diskCells[place])));
  makeChoosable(byId("file-map"), (place) => chooseInFile(place, goToAll));
  makeChoosable(byId("sector-strip"), (place) => goToAll(stripOf(state.sector).first + place));
  byId("sector-before").addEventListener("click", () => goToAll(state.sector - 1));
  byId("sector-after").addEventListener("click", () => goToAll(state.sector + 1));
  onNumber(byId("sector-input"), {
    value: () => state.sector, most: sectorCount - 1, set: (number) => goToAll(Number(number)),
  });
  onNumber(byId("other"), { value: () => readNumber(byId("other").value, SECTOR_NUMBER_MAX) ?? 0n,
    most: SECTOR_NUMBER_MAX, set: (number) => { byId("other").value = number; drawCompare(); } });
}

function listenToLooks() {
  const themes = ["", "light", "dark"];
  const names = ["system", "light", "dark"];
  byId("theme").addEventListener("click", () => {
    const next = (themes.indexOf(document.documentElement.dataset.theme ?? "") + 1) % themes.length;
    if (themes[next]) document.documentElement.dataset.theme = themes[next];
    else delete document.documentElement.dataset.theme;
    byId("theme").textContent = `Theme: ${names[next]}`;
  });
  byId("large").addEventListener("click", () => {
    const large = document.documentElement.toggleAttribute("data-large");
    byId("large").setAttribute("aria-pressed", String(large));
  });
  byId("print").addEventListener("click", () => window.print());
}

function listenToKey() {
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    useKey(passphraseToKey(byId("key-input").value));
    byId("key-input").value = "";
  });
  byId("key-forget").addEventListener("click", () => {
    byId("key-show").setAttribute("aria-pressed", "false");
    useKey(null);
  });
  byId("key-show").addEventListener("click", () => {
    const shown = byId("key-show").getAttribute("aria-pressed") === "true";
    byId("key-show").setAttribute("aria-pressed", String(!shown));
    drawKey();
  });
}

function start() {
  document.title = `${image.name}: how one sector is encrypted`;
  const facts = [image.name, `qcow2 version ${image.version}, AES`, `guest disk ${size(image.diskSize)}`,
    `file ${size(image.fileSize)}`, `clusters of ${size(image.clusterSize)}`];
  if (image.backingFile !== null) facts.push(`backing file ${image.backingFile}`);
  if (image.dataFile !== null) facts.push(`data file ${image.dataFile}`);
  if (image.snapshots.length) facts.push(`snapshots: ${image.snapshots.join(", ")}`);
  byId("facts").textContent = facts.join(" · ");
  byId("left-out").textContent = [...aboutCells(), ...image.leftOut].join(" ");
  drawMap(byId("disk-map"), image.diskCells, DISK_KINDS, aboutDisk);
  drawMap(byId("file-map"), image.fileCells, FILE_KINDS, aboutFile);
  drawLegend(byId("disk-legend"), image.diskCells, DISK_KINDS);
  drawLegend(byId("file-legend"), image.fileCells, FILE_KINDS);
  SIDES.forEach(buildPanel);
  buildChain();
  listenToLooks();
  listenToKey();
  listenToPlaces();
  listenToLab();
  state.key = image.key === null ? null : fromHex(image.key);
  state.side = state.key ? "plain" : "cipher";
  drawKey();
  goToAll(image.sector);
}

start();

// For the console of the browser, and for the tests.
window.qcow2crypt = Object.freeze({
  expandKey, encryptBlock, decryptBlock, sha256, passphraseToKey, makeIv, cbcEncrypt, cbcDecrypt,
  image, state,
});
