// Tables. What a run says is put in as text, never as HTML.

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const number = (text) => element("td", { class: "number" }, text);
const row = (head, ...cells) => element("tr", {}, element("th", { scope: "row" }, ...[head].flat()), ...cells);

function swatch(kind) {
  const made = element("i", { class: "swatch" });
  made.style.background = `var(${kindVariable(kind)})`;
  return made;
}

// A share as a number with a bar below it.
function shareCell(part, whole, colour = "--muted") {
  const bar = element("i", { class: "share" });
  bar.style.width = `${whole ? Math.max(0, Math.min(100, (100 * part) / whole)) : 0}%`;
  bar.style.background = `var(${colour})`;
  return element("td", { class: "number" }, percent(part, whole), element("span", { class: "track" }, bar));
}

function table(caption, heads, rows, foot) {
  const headCells = heads.map((head, index) => element("th", { scope: "col", class: index ? "number" : "" }, head));
  const made = element("table", {},
    element("caption", { class: "unseen" }, caption),
    element("thead", {}, element("tr", {}, ...headCells)),
    element("tbody", {}, ...rows));
  if (foot) made.append(element("tfoot", {}, foot));
  return made;
}

function differenceCells(a, b) {
  const sign = b > a ? "more" : b < a ? "less" : "";
  const difference = element("td", { class: `number ${sign}` }, signed(b - a, humanBytes));
  return [number(humanBytes(a)), number(humanBytes(b)), difference];
}

function kindsTable(run) {
  const peak = run.totalsByKind(run.peakEvent);
  const now = run.totalsByKind(run.now);
  const cells = (a, b) => [number(humanBytes(a)), number(humanBytes(b))];
  const share = (kind) => shareCell(peak[kind], run.peakBytes, kindVariable(kind));
  const rows = run.kinds.map((kind) => row([swatch(kind), kind], ...cells(now[kind], peak[kind]), share(kind)));
  const foot = row("total", ...cells(run.total[run.now], run.peakBytes), number("100.0%"));
  return table("Bytes by kind", ["Kind", "Live now", "At the peak", "Share"], rows, foot);
}

function kindsDifference([a, b]) {
  const [ofA, ofB] = [a, b].map((run) => run.totalsByKind(run.peakEvent));
  const kinds = [...new Set([...a.kinds, ...b.kinds])];
  const cells = (kind) => differenceCells(ofA[kind] ?? 0, ofB[kind] ?? 0);
  const rows = kinds.map((kind) => row([swatch(kind), kind], ...cells(kind)));
  const foot = row("total", ...differenceCells(a.peakBytes, b.peakBytes));
  return table("Bytes by kind at the peaks of both runs", ["Kind", "A", "B", "B − A"], rows, foot);
}

// What the process holds: the blocks, what is free in arenas, and what is not the framework's, where that is known.
function processParts(run) {
  const live = run.total[run.last];
  const free = sum(run.arenas.map((arena) => arena.capacity - arena.used));
  return { live, free, rest: run.residentBytes ? Math.max(0, run.residentBytes - live - free) : null };
}

const PROCESS_ROWS = [
  ["Framework's blocks, at the end", "live"],
  ["Free in arenas", "free"],
  ["Not the framework's", "rest"],
];
const known = (bytes) => (bytes ? humanBytes(bytes) : "not known");

function processTable(run) {
  const parts = processParts(run);
  const share = (bytes) => (run.residentBytes ? shareCell(bytes, run.residentBytes) : number(""));
  const rows = PROCESS_ROWS.filter(([, name]) => parts[name] !== null)
    .map(([head, name]) => row(head, number(humanBytes(parts[name])), share(parts[name])));
  const foot = row("Process, resident", number(known(run.residentBytes)), number(""));
  return table("Process", ["Process", "Bytes", "Share"], rows, foot);
}

function processDifference([a, b]) {
  const [ofA, ofB] = [a, b].map(processParts);
  const areKnown = a.residentBytes && b.residentBytes;
  const rows = PROCESS_ROWS.filter(([, name]) => areKnown || name !== "rest")
    .map(([head, name]) => row(head, ...differenceCells(ofA[name], ofB[name])));
  return table("Processes of both runs", ["Process", "A", "B", "B − A"], rows, residentDifference(a, b));
}

function residentDifference(a, b) {
  const areKnown = a.residentBytes && b.residentBytes;
  const unknown = () => [number(known(a.residentBytes)), number(known(b.residentBytes)), number("")];
  return row("Process, resident", ...(areKnown ? differenceCells(a.residentBytes, b.residentBytes) : unknown()));
}

const ARENA_ROWS = [
  ["Used", "used"],
  ["Used at its peak", "peak"],
  ["Capacity", "capacity"],
  ["Fragmented, free beside the largest free run", "fragmented"],
];

function arenaTable(runs) {
  const heads = runs.flatMap((run) => run.arenas.map((arena) => `${run.label} on ${arena.device}`.trim()));
  const cells = (name, write) => runs.flatMap((run) => run.arenas.map((arena) => number(write(arena[name]))));
  const rows = ARENA_ROWS.map(([head, name]) => row(head, ...cells(name, humanBytes)));
  return table("Arenas", ["Arena", ...heads], [...rows, row("Blocks", ...cells("blocks", count))]);
}

// Columns of text; one that nothing is said in is left out.
const LARGEST_TEXTS = [["Tensor", "name"], ["Op", "op"], ["Shape", "shape"], ["Line", "line"]];

// The blocks that hold most at the peak; the button of each shows it in the timeline.
function largestTable(run, show) {
  const blocks = run.largestAt(run.peakEvent, 10);
  const texts = LARGEST_TEXTS.filter(([, column]) => blocks.some((block) => run.text(column, block)));
  const rows = blocks.map((block) => largestRow(run, block, texts, () => show(run, block)));
  const heads = ["Module", ...texts.map(([head]) => head), "Bytes", "Share"];
  const made = table(`Ten largest blocks at the peak ${run.label}`, heads, rows);
  const headCells = [...made.querySelectorAll("th[scope=col]")];
  headCells.slice(1, -2).forEach((head) => (head.className = "wide-only"));
  return made;
}

function largestRow(run, block, texts, act) {
  const path = run.text("path", block) || "(no module)";
  const button = element("button", { type: "button", class: "link", title: "Show in the timeline" }, path);
  button.addEventListener("click", act);
  const words = texts.map(([, column]) => run.text(column, block));
  const brief = element("small", { class: "narrow-only" }, words.filter(Boolean).join(" · "));
  const cells = texts.map(([, column], index) => element("td", { class: `wide-only ${column}` }, words[index]));
  const bytes = run.bytes[block];
  const numbers = [humanBytes(bytes), percent(bytes, run.peakBytes)].map(number);
  return row([swatch(run.kinds[run.kind[block]]), button, brief], ...cells, ...numbers);
}
