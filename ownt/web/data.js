// What a run holds, counted: totals by kind at each event, the peak, what is live, the tree of modules.
// Events are numbered from 1 here; 0 is the beginning, before them all.

const UNITS = [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]];

// The digits of ownt.report.human_bytes: where JavaScript rounds a tie up, Python goes to the even digit.
function twoDecimals(value) {
  const isTieToRoundDown = (value * 8) % 4 === 1;
  return (isTieToRoundDown ? value - 0.001 : value).toFixed(2);
}

function humanBytes(bytes) {
  const size = Math.abs(bytes);
  const unit = UNITS.find(([scale]) => size >= scale);
  return unit ? `${bytes < 0 ? "-" : ""}${twoDecimals(size / unit[0])} ${unit[1]}` : `${bytes} B`;
}

function signed(difference, write) {
  return (difference > 0 ? "+" : difference < 0 ? "−" : "") + write(Math.abs(difference));
}

function humanTime(seconds) {
  if (seconds === 0) return "0 s";
  if (seconds >= 1) return `${seconds.toFixed(3)} s`;
  return seconds >= 1e-3 ? `${(seconds * 1e3).toFixed(2)} ms` : `${(seconds * 1e6).toFixed(1)} µs`;
}

const count = (number) => number.toLocaleString("en");
const percent = (part, whole) => `${(whole ? (100 * part) / whole : 0).toFixed(1)}%`;
const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);

class Run {
  constructor(data, label) {
    const { blocks } = data;
    this.label = label;
    this.title = data.title || "untitled";
    this.device = data.device;
    this.isEstimate = data.device === "meta"; // nothing was computed, so that its times say nothing
    this.residentBytes = data.resident_bytes;
    this.kinds = data.kinds;
    this.strings = data.strings;
    this.phases = data.phases.map(([name, first, after]) => [name, first + 1, after + 1]);
    this.arenas = data.arenas;
    this.columns = blocks;
    this.times = Float64Array.from([Math.min(0, data.times[0] ?? 0), ...data.times]);
    this.events = this.times.length; // with the beginning
    this.last = this.events - 1;
    this.blocks = blocks.start.length;
    this.start = Int32Array.from(blocks.start, (event) => event + 1);
    this.end = Int32Array.from(blocks.end, (event) => (event < 0 ? this.events : event + 1));
    this.bytes = Float64Array.from(blocks.bytes);
    this.kind = Uint8Array.from(blocks.kind);
    this.order = this.byStart();
    this.countTotals();
    this.noteEvents();
    this.now = this.last;
  }

  byStart() {
    const order = Int32Array.from(this.start.keys());
    const isSorted = order.every((block) => block === 0 || this.start[block - 1] <= this.start[block]);
    return isSorted ? order : order.sort((a, b) => this.start[a] - this.start[b] || a - b);
  }

  countTotals() {
    this.byKind = this.kinds.map(() => new Float64Array(this.events + 1));
    for (let block = 0; block < this.blocks; block++) {
      const changes = this.byKind[this.kind[block]];
      changes[this.start[block]] += this.bytes[block];
      changes[this.end[block]] -= this.bytes[block];
    }
    this.total = new Float64Array(this.events);
    this.peakEvent = 0;
    for (let event = 0; event < this.events; event++) {
      for (const totals of this.byKind) {
        if (event > 0) totals[event] += totals[event - 1];
        this.total[event] += totals[event];
      }
      if (this.total[event] > this.total[this.peakEvent]) this.peakEvent = event;
    }
    this.peakBytes = this.total[this.peakEvent];
  }

  noteEvents() {
    this.made = new Int32Array(this.events).fill(-1);
    this.released = new Int32Array(this.events + 1).fill(-1);
    for (let block = 0; block < this.blocks; block++) {
      if (this.start[block] > 0) this.made[this.start[block]] = block;
      this.released[this.end[block]] = block;
    }
  }

  get duration() {
    return this.times[this.last] - this.times[0];
  }

  text(column, block) {
    return this.strings[this.columns[column][block]];
  }

  isLive(block, event) {
    return this.start[block] <= event && this.end[block] > event;
  }

  // Blocks live after an event as they are stacked: by kind, and within a kind the oldest lowest.
  stackAt(event) {
    const stacks = this.kinds.map(() => []);
    for (const block of this.order) if (this.isLive(block, event)) stacks[this.kind[block]].push(block);
    return stacks.flat();
  }

  largestAt(event, howMany) {
    const live = this.stackAt(event);
    return live.sort((a, b) => this.bytes[b] - this.bytes[a] || a - b).slice(0, howMany);
  }

  // For each block whether its module's path contains the query.
  matches(query) {
    const wanted = query.toLowerCase();
    const isMatch = this.strings.map((text) => text.toLowerCase().includes(wanted));
    return Uint8Array.from(this.columns.path, (index) => isMatch[index]);
  }

  totalsByKind(event) {
    return Object.fromEntries(this.kinds.map((kind, index) => [kind, this.byKind[index][event]]));
  }

  totalsByPath(event) {
    const totals = new Map();
    for (const block of this.stackAt(event)) {
      const path = this.text("path", block);
      totals.set(path, (totals.get(path) ?? 0) + this.bytes[block]);
    }
    return totals;
  }

  phaseOf(event) {
    return this.phases.findLast(([, first, after]) => first <= event && event < after)?.[0] ?? "";
  }

  // The parts of a moment that are known, for a line of text.
  moment(event) {
    if (event === 0) return ["the beginning"];
    const time = this.isEstimate ? "" : humanTime(this.times[event]);
    return [`event ${count(event)}`, time, this.phaseOf(event)].filter(Boolean);
  }

  life(block) {
    const [start, end] = [this.start[block], this.end[block]];
    const from = start === 0 ? "before the first event" : this.moment(start).join(", ");
    return `${from} → ${end < this.events ? this.moment(end).join(", ") : "after the last event"}`;
  }
}

// A tree of module paths, with the bytes of each table in `tables` (path: bytes) at every node.
function moduleTree(tables) {
  const zeros = () => tables.map(() => 0);
  const makeNode = (name, path) => ({ name, path, values: zeros(), own: zeros(), children: new Map() });
  const root = makeNode("", "");
  tables.forEach((table, column) => {
    for (const [path, bytes] of table) {
      let node = root;
      node.values[column] += bytes;
      for (const name of path ? path.split(".") : ["(no module)"]) {
        if (!node.children.has(name)) {
          node.children.set(name, makeNode(name, node === root ? name : `${node.path}.${name}`));
        }
        node = node.children.get(name);
        node.values[column] += bytes;
      }
      node.own[column] += bytes;
    }
  });
  return root;
}
