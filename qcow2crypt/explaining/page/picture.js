// The picture of the image that Python wrote into this page, and where a sector lies in it.
// Knows offsets; knows no key and draws nothing. All its text is data: it is never made into HTML.

function fromBase64(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

function fromHex(text) {
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

function hexByte(byte) {
  return byte.toString(16).padStart(2, "0");
}

function hexNumber(number) {
  return `0x${number.toString(16)}`;
}

const image = JSON.parse(document.getElementById("image").textContent);
const runs = image.runs.map((run) => ({ ...run, bytes: fromBase64(run.bytes) }));
const sectorCount = Math.ceil(image.diskSize / SECTOR);

// The last piece of a list in order of `at` that begins at or before an offset, if it reaches it.
function pieceAt(pieces, offset) {
  let low = 0;
  let high = pieces.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (pieces[middle].at <= offset) low = middle + 1;
    else high = middle;
  }
  const piece = pieces[low - 1];
  return piece && offset < piece.at + piece.size ? piece : null;
}

function extentOf(sector) {
  return pieceAt(image.extents, sector * SECTOR);
}

function hostOffsetOf(sector) {
  const extent = extentOf(sector);
  if (!extent || extent.host === null || extent.kind === "compressed") return null;
  return extent.host + sector * SECTOR - extent.at;
}

// The 512 bytes as they stand in the file; null where the page does not have them.
function storedSector(sector) {
  const run = runs.find((one) => one.first <= sector && sector < one.first + one.bytes.length / SECTOR);
  if (!run) return null;
  const start = (sector - run.first) * SECTOR;
  return run.bytes.slice(start, start + SECTOR);
}

function firstStoredIn(cell) {
  const end = cell.at + cell.size;
  for (const run of runs) {
    const sector = Math.max(run.first, Math.floor(cell.at / SECTOR));
    if (sector < run.first + run.bytes.length / SECTOR && sector * SECTOR < end) return sector;
  }
  return Math.floor(cell.at / SECTOR);
}

// In words, for a sector without ciphertext to show.
function whyNothingStored(sector) {
  const extent = extentOf(sector);
  const more = `To have it: qcow2crypt explain --html FILE --offset ${hexNumber(sector * SECTOR)} IMAGE`;
  if (!extent) return `What is stored here is left out of this page. ${more}`;
  return {
    data: `Its ciphertext is left out of this page. ${more}`,
    zero: "The table says that it reads as zeros. Nothing is encrypted here.",
    unallocated: "Nothing is stored: it reads as zeros. Its number would be its IV once it is written.",
    backing: "This file does not store it: the backing file says what it holds.",
    compressed: "Its cluster is compressed, and compressed clusters are stored in clear.",
  }[extent.kind];
}
