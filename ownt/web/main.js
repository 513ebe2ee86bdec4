// The page: reads the runs, puts tables and timelines in their places, and keeps what they share.

const byId = (id) => document.getElementById(id);

class Page {
  constructor(runs) {
    this.runs = runs;
    this.isComparison = runs.length > 1;
    this.view = new View(runs);
    this.kinds = [...new Set(runs.flatMap((run) => run.kinds))];
    this.timelines = runs.map((run) => new Timeline(this, run));
    [this.cursor, this.kept, this.lastHoverMs] = [null, null, null];
    this.matches = runs.map(() => null);
    this.overview = new Overview(this, byId("overview").firstElementChild);
    const heads = this.isComparison ? ["A", "B", "B − A"] : ["Live now", "At the peak", "Share"];
    this.tree = new Tree(byId("modules"), heads, this.treeCells());
    this.addHead();
    this.addTables();
    this.listen();
    this.pointOut();
    new ResizeObserver(() => this.redraw()).observe(byId("timelines"));
  }

  addHead() {
    byId("title").append(...this.runs.map((run) => element("span", {}, ...this.label(run), run.title)));
    byId("subtitle").textContent = this.isComparison ? "Two runs on the same axes" : place(this.runs[0]);
    byId("figures").append(this.isComparison ? figuresDifference(this.runs) : figures(this.runs[0]));
    byId("legend").append(...this.kinds.map((kind) => element("li", {}, swatch(kind), kind, element("output", {}))));
    for (const timeline of this.timelines) {
      const { run } = timeline;
      const stroke = element("i", { class: `stroke ${run.label}`, title: "In the overview" });
      const text = `${run.title}, ${run.isEstimate ? "estimated" : run.device}`;
      const caption = element("p", { class: "caption" }, stroke, ...this.label(run), text);
      byId("timelines").append(...(this.isComparison ? [caption] : []), timeline.plot);
    }
    byId("timelines").classList.toggle("two", this.isComparison);
  }

  label(run) {
    return this.isComparison ? [element("b", { class: "label" }, run.label)] : [];
  }

  addTables() {
    for (const run of this.runs) {
      const caption = () => (this.isComparison ? [element("h3", {}, ...this.label(run), run.title)] : []);
      byId("largest").append(...caption(), largestTable(run, this.showAtPeak.bind(this)));
    }
    byId("process").append(this.isComparison ? processDifference(this.runs) : processTable(this.runs[0]));
    if (this.runs.some((run) => run.arenas.length)) byId("process").append(arenaTable(this.runs));
    this.showNow();
  }

  treeCells() {
    if (this.isComparison) return (node) => differenceCells(...node.values);
    return ({ values: [now, peak] }, root) =>
      [number(humanBytes(now)), number(humanBytes(peak)), shareCell(peak, root.values[1])];
  }

  // Tables that follow the moment that is kept; a comparison is of the peaks.
  showNow() {
    const [run] = this.runs;
    if (this.isComparison) return this.showDifferences();
    const isEnd = run.now === run.last;
    const hint = isEnd ? ", the end: keep another moment in the timeline" : "";
    byId("now").textContent = `Now is ${run.moment(run.now).join(", ")}${hint}.`;
    byId("kinds").replaceChildren(kindsTable(run));
    this.tree.show(moduleTree([run.now, run.peakEvent].map((event) => run.totalsByPath(event))));
  }

  showDifferences() {
    if (this.tree.root) return;
    byId("kinds").append(kindsDifference(this.runs));
    this.tree.show(moduleTree(this.runs.map((run) => run.totalsByPath(run.peakEvent))));
  }

  listen() {
    const onClick = (id, act) => byId(id).addEventListener("click", act);
    onClick("zoom-in", () => zoomAtCursor(this.active, 0.5));
    onClick("zoom-out", () => zoomAtCursor(this.active, 2));
    onClick("zoom-all", () => this.change(() => this.view.fit()));
    onClick("go-to-peak", () => goToPeak(this.active));
    onClick("open-all", () => this.tree.openAll(true));
    onClick("close-all", () => this.tree.openAll(false));
    byId("search").addEventListener("input", () => this.search(byId("search").value.trim()));
    byId("axis").addEventListener("change", (event) => this.change(() => this.setAxis(event.target.value)));
    byId("axis").querySelector(`[value=${this.view.axis}]`).checked = true;
    chooseTheme(() => this.redraw());
  }

  get active() {
    return this.cursor?.timeline ?? this.timelines[0];
  }

  setAxis(axis) {
    this.view.setAxis(axis);
    if (this.cursor) this.cursor.position = this.cursor.timeline.middleOf(this.cursor.event);
  }

  change(act) {
    act();
    this.redraw();
  }

  redraw() {
    this.frame ??= requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.frame = null;
    this.palette = new Palette(this.kinds);
    drawOverview(this.overview.canvas, this.palette, this.view, this.runs);
    this.timelines.forEach((timeline, index) => timeline.draw(this.paletteOf(timeline.run), this.matches[index]));
    this.readyMs ??= performance.now();
  }

  paletteOf(run) {
    return run === this.runs[0] && !this.isComparison ? this.palette : new Palette(run.kinds);
  }

  pointAt(timeline, event, block, position) {
    const isSame = this.cursor?.timeline === timeline && this.cursor.event === event && this.cursor.block === block;
    this.cursor = { timeline, event, block, position };
    [timeline.event, timeline.block] = [event, block];
    this.drawCursor();
    if (!isSame) this.pointOut();
  }

  drawCursor() {
    if (this.palette) for (const timeline of this.timelines) timeline.drawOverlay(this.palette);
  }

  pointOut() {
    const atPeak = { timeline: this.timelines[0], event: this.runs[0].peakEvent, block: -1 };
    const { timeline: { run }, event, block } = this.cursor ?? atPeak;
    const prefix = this.isComparison ? [run.label] : [];
    const moment = [...prefix, ...run.moment(event), `${humanBytes(run.total[event])} live`];
    byId("moment").textContent = (this.cursor ? "" : "At the peak: ") + moment.join(" · ");
    const totals = run.totalsByKind(event);
    const outputs = byId("legend").querySelectorAll("output");
    this.kinds.forEach((kind, index) => (outputs[index].textContent = humanBytes(totals[kind] ?? 0)));
    showBlock(run, block, event);
    byId("spoken").textContent = this.cursor ? spoken(run, block, event, prefix) : "";
  }

  keep() {
    this.kept = this.cursor;
    this.setNow(this.kept.timeline.run, this.kept.event);
  }

  leave() {
    this.cursor = this.kept;
    if (this.kept) [this.kept.timeline.event, this.kept.timeline.block] = [this.kept.event, this.kept.block];
    this.drawCursor();
    this.pointOut();
  }

  letGo() {
    this.kept = null;
    this.leave();
    for (const run of this.runs) this.setNow(run, run.last);
  }

  setNow(run, event) {
    if (run.now === event) return;
    run.now = event;
    this.showNow();
  }

  showAtPeak(run, block) {
    const timeline = this.timelines[this.runs.indexOf(run)];
    moveCursor(timeline, run.peakEvent, block);
    timeline.plot.focus();
  }

  search(query) {
    this.matches = this.runs.map((run) => (query ? run.matches(query) : null));
    const found = this.runs.map((run, index) => query && this.foundText(run, this.matches[index]));
    byId("found").textContent = found.filter(Boolean).join(" · ");
    this.tree.search(query);
    this.redraw();
  }

  foundText(run, matches) {
    const atPeak = run.stackAt(run.peakEvent).filter((block) => matches[block]);
    const modules = new Set(run.columns.path.filter((_, block) => matches[block])).size;
    const bytes = humanBytes(sum(atPeak.map((block) => run.bytes[block])));
    const label = this.isComparison ? `${run.label}: ` : "";
    return `${label}${count(modules)} ${modules === 1 ? "module" : "modules"}, ${bytes} at the peak`;
  }

  // What tests compare; events are numbered as in the data, from 0, and -1 is the beginning.
  state() {
    const runs = this.runs.map((run) => {
      const { peakBytes, peakEvent } = run;
      return { peakBytes, peakEvent: peakEvent - 1, totalsAtPeak: run.totalsByKind(peakEvent) };
    });
    const { x0, x1, y0, y1 } = this.view;
    const { readyMs = null, lastHoverMs } = this;
    return { ...runs[0], runs, readyMs, lastHoverMs, hovered: this.hovered(), window: [x0, x1], bytes: [y0, y1] };
  }

  hovered() {
    if (!this.cursor) return null;
    const { timeline, event, block } = this.cursor;
    return { run: this.timelines.indexOf(timeline), event: event - 1, block };
  }
}

const runs = JSON.parse(byId("runs").textContent);
const page = new Page(runs.map((run, index) => new Run(run, runs.length > 1 ? "AB"[index] : "")));
window.ownt = { state: () => page.state() };
