// The two maps, linked, and the sectors of one cluster. Each cell has a letter besides its colour.

// Kind: letter, class, and what it is in words.
const DISK_KINDS = {
  data: ["D", "data", "encrypted data"],
  zero: ["0", "zero", "reads as zeros"],
  unallocated: ["·", "hole", "not stored"],
  compressed: ["C", "packed", "compressed, in clear"],
  backing: ["B", "backing", "in the backing file"],
};
const FILE_KINDS = {
  header: ["H", "head", "header"],
  "header extension": ["H", "head", "header extension"],
  "backing file name": ["N", "head", "backing file name"],
  "refcount table": ["RT", "count", "refcount table"],
  "refcount block": ["RB", "count", "refcount block"],
  "L1 table": ["L1", "l1", "L1 table"],
  "L2 table": ["L2", "l2", "L2 table"],
  data: ["D", "data", "encrypted data"],
  "compressed data": ["C", "packed", "compressed data (in clear)"],
  "kept for zeros": ["0", "zero", "kept for zeros"],
  "snapshot table": ["S", "other", "snapshot table"],
  "bitmap directory": ["BD", "other", "bitmap directory"],
  "bitmap table": ["BT", "other", "bitmap table"],
  "bitmap data": ["BM", "other", "bitmap data"],
  unreferenced: ["·", "free", "free"],
  "unused rest": ["·", "free", "unused rest"],
  "not looked at": ["?", "free", "not looked at"],
};
const OF_A_SNAPSHOT = " of a snapshot"; // what only snapshots know of: the same kinds, small letters
const STRIP_MAX = 64;

const chosen = { disk: 0, file: -1, linkedDisk: [], linkedFile: [] };

function size(bytes) {
  for (const [unit, name] of [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [1024, "KiB"]]) {
    if (bytes >= unit) return `${+(bytes / unit).toFixed(bytes % unit ? 1 : 0)} ${name}`;
  }
  return `${bytes} bytes`;
}

function letterCell(kinds, kind) {
  if (kind.endsWith(OF_A_SNAPSHOT)) {
    const { letter, words } = letterCell(kinds, kind.slice(0, -OF_A_SNAPSHOT.length));
    return { letter: letter.toLowerCase(), className: "cell k-other", words: words + OF_A_SNAPSHOT };
  }
  const [letter, look, words] = kinds[kind] ?? ["?", "free", kind];
  return { letter, className: `cell k-${look}`, words };
}

// "cluster 3" or "clusters 8 to 15"
function clustersOf(cell) {
  const first = Math.floor(cell.at / image.clusterSize);
  const last = Math.ceil((cell.at + cell.size) / image.clusterSize) - 1;
  return first === last ? `cluster ${first}` : `clusters ${first} to ${last}`;
}

function partsOf(cell, kinds) {
  return cell.parts.map(([kind, bytes]) => {
    const share = cell.parts.length > 1 ? ` (${size(bytes)})` : "";
    return letterCell(kinds, kind).words + share;
  }).join(", ");
}

function someClusters(cells, places) {
  const names = places.slice(0, 4).map((place) => clustersOf(cells[place]));
  return names.join(", ") + (places.length > 4 ? ` and ${places.length - 4} more` : "");
}

function aboutDisk(cell) {
  const where = cell.links.length ? ` In the file: ${someClusters(image.fileCells, cell.links)}.` : "";
  return `Guest ${clustersOf(cell)}, from guest offset ${hexNumber(cell.at)}: ${partsOf(cell, DISK_KINDS)}.${where}`;
}

function aboutFile(cell) {
  const where = cell.links.length ? ` Holds guest ${someClusters(image.diskCells, cell.links)}.` : "";
  return `File ${clustersOf(cell)}, from host offset ${hexNumber(cell.at)}: ${partsOf(cell, FILE_KINDS)}.${where}`;
}

function drawMap(list, cells, kinds, about) {
  list.classList.toggle("many", cells.length > 64);
  list.replaceChildren(...cells.map((cell) => {
    const { letter, className } = letterCell(kinds, cell.kind);
    const option = make("div", { className: `${className} choice`, textContent: letter, role: "option" });
    option.setAttribute("aria-label", about(cell));
    return option;
  }));
}

function drawLegend(list, cells, kinds) {
  const present = new Set(cells.map((cell) => cell.kind));
  const all = Object.keys(kinds).flatMap((kind) => [kind, kind + OF_A_SNAPSHOT]);
  list.replaceChildren(...all.filter((kind) => present.has(kind)).map((kind) => {
    const { letter, className, words } = letterCell(kinds, kind);
    const swatch = make("span", { className, textContent: letter });
    swatch.setAttribute("aria-hidden", "true");
    return make("li", {}, swatch, words);
  }));
}

function markMaps() {
  for (const [name, about] of [["disk", aboutDisk], ["file", aboutFile]]) {
    const cells = image[`${name}Cells`];
    const linked = new Set(name === "disk" ? chosen.linkedDisk : chosen.linkedFile);
    const options = [...byId(`${name}-map`).children];
    markChosen(options, chosen[name]);
    options.forEach((option, place) => {
      option.classList.toggle("linked", linked.has(place));
    });
    const text = cells[chosen[name]] ? about(cells[chosen[name]]) : "Nothing of it lies here.";
    byId(`${name}-about`).textContent = text;
  }
}

// Said where a cell is more than a cluster.
function aboutCells() {
  return [["disk", "guest disk"], ["file", "file"]].flatMap(([name, words]) => {
    const count = image[`${name}Cells`][0].size / image.clusterSize;
    return count > 1
      ? [`A cell of the ${words} stands for ${count} clusters; its letter tells what it holds most of.`] : [];
  });
}

// The guest cluster of the chosen sector, and the place in the file that holds this very sector.
function chooseInMaps(sector) {
  chosen.disk = Math.floor((sector * SECTOR) / image.diskCells[0].size);
  const cell = image.diskCells[chosen.disk];
  const host = image.dataFile === null ? hostOffsetOf(sector) : null;
  chosen.file = host === null ? cell.links[0] ?? -1 : Math.floor(host / image.fileCells[0].size);
  chosen.linkedFile = cell.links;
  chosen.linkedDisk = image.fileCells[chosen.file]?.links ?? [];
  markMaps();
}

// A cell of the file: the sector of the guest disk that lies there, if one does.
function chooseInFile(place, goToAll) {
  const cell = image.fileCells[place];
  if (cell.links.length) {
    const linked = image.diskCells[cell.links[0]];
    const extent = image.extents.find((one) => one.host !== null && one.kind !== "compressed"
      && one.host < cell.at + cell.size && cell.at < one.host + one.size);
    const at = extent ? extent.at + Math.max(cell.at - extent.host, 0) : linked.at;
    goToAll(Math.floor(at / SECTOR));
  }
  chosen.file = place;
  chosen.linkedDisk = cell.links;
  if (!cell.links.length) {
    chosen.disk = -1;
    chosen.linkedFile = [];
  }
  markMaps();
}

// ------------------------------------------------------------------ the sectors of one cluster

function stripOf(sector) {
  const perCluster = image.clusterSize / SECTOR;
  const start = Math.floor(sector / perCluster) * perCluster;
  const first = start + Math.floor((sector - start) / STRIP_MAX) * STRIP_MAX;
  return { first, end: Math.min(first + STRIP_MAX, start + perCluster, sectorCount) };
}

function drawStrip(sector) {
  const { first, end } = stripOf(sector);
  const cells = [];
  for (let one = first; one < end; one++) {
    const kind = extentOf(one)?.kind ?? "unallocated";
    const { className, words } = letterCell(DISK_KINDS, kind);
    const cell = make("div", { className: `${className} choice`, textContent: one, role: "option" });
    cell.setAttribute("aria-label", `sector ${one}, ${words}`);
    cells.push(cell);
  }
  byId("sector-strip").replaceChildren(...cells);
  markChosen(cells, sector - first);
}

function drawTrace(sector) {
  const offset = sector * SECTOR;
  const cluster = Math.floor(offset / image.clusterSize);
  const inside = offset % image.clusterSize;
  const l1 = Math.floor(cluster / image.l2Entries);
  const l2 = cluster % image.l2Entries;
  const table = image.l2Tables.find(([guest]) => guest === l1 * image.l2Entries * image.clusterSize);
  const host = hostOffsetOf(sector);
  const entry = (start, index) => hexNumber(start + index * image.entrySize);
  const noTable = image.l2Complete ? "the L1 entry names no L2 table" : "its L2 table is left out of this page";
  const noHost = extentOf(sector) ? "none" : "left out";
  const rows = [
    ["Guest offset", hexNumber(offset), `sector ${sector} × 512`],
    ["Guest cluster", cluster, `guest offset / ${image.clusterSize}, and ${hexNumber(inside)} bytes into it`],
    ["L1 index", l1, `cluster / ${image.l2Entries}; the entry stands at host offset ${hexNumber(image.l1Offset + 8 * l1)}`],
    ["L2 index", l2, table ? `cluster mod ${image.l2Entries}; the entry stands at host offset ${entry(table[1], l2)}` : noTable],
    ["Host offset", host === null ? noHost : hexNumber(host), host === null ? "" : `what the L2 entry says, plus ${hexNumber(inside)}${image.dataFile === null ? "" : ", in the data file"}`],
  ];
  if (host !== null) {
    rows.push(["Host sector", Math.floor(host / SECTOR), "host offset / 512: this number is not the IV"]);
  }
  byId("trace").replaceChildren(...rows.map(([what, value, how]) => make("tr", {},
    make("th", { scope: "row", textContent: what }),
    make("td", { textContent: value }),
    make("td", { textContent: how }))));
}
