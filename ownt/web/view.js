// The window that all timelines of a page share: a stretch of the horizontal axis and a range of bytes.

class View {
  constructor(runs) {
    this.runs = runs;
    this.axis = runs.some((run) => run.isEstimate || !run.duration) ? "events" : "time";
    this.topBytes = 1.1 * Math.max(1, ...runs.map((run) => run.peakBytes));
    this.fit();
  }

  fit() {
    [this.x0, this.x1] = [this.first, this.last];
    [this.y0, this.y1] = [0, this.topBytes];
  }

  get first() {
    return Math.min(...this.runs.map((run) => this.position(run, 0)));
  }

  get last() {
    return Math.max(...this.runs.map((run) => this.position(run, run.events)));
  }

  get isWhole() {
    return this.x1 - this.x0 > 0.999999 * (this.last - this.first);
  }

  // Where an event is on the axis; the last one lasts a little, so that what it leaves can be seen.
  position(run, event) {
    if (this.axis === "events") return event;
    if (event < run.events) return run.times[event];
    return run.times[run.last] + 0.01 * Math.max(1e-9, ...this.runs.map((each) => each.duration));
  }

  // The last event at or before a position.
  eventAt(run, position) {
    let [low, high] = [0, run.last];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.position(run, middle) <= position) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  // The event that each column of pixels shows: of those within it the one with the most bytes, so that no peak is
  // lost; -1 past the end.
  columns(run, width, x0 = this.x0, x1 = this.x1) {
    const events = new Int32Array(width).fill(-1);
    const end = this.position(run, run.events);
    let event = this.eventAt(run, x0);
    for (let x = 0; x < width && x0 + (x * (x1 - x0)) / width < end; x++) {
      const right = x0 + ((x + 1) * (x1 - x0)) / width;
      let most = event;
      while (event + 1 < run.events && this.position(run, event + 1) < right) {
        event++;
        if (run.total[event] > run.total[most]) most = event;
      }
      events[x] = most;
    }
    return events;
  }

  setAxis(axis) {
    const [run] = this.runs;
    const wasWhole = this.isWhole;
    const events = [this.eventAt(run, this.x0), this.eventAt(run, this.x1) + 1];
    this.axis = axis;
    if (wasWhole) this.show(this.first, this.last);
    else this.show(...events.map((event) => this.position(run, event)));
  }

  // A window is kept inside the run and no narrower than a few events.
  show(x0, x1) {
    const whole = this.last - this.first;
    const events = Math.max(...this.runs.map((run) => run.events));
    const narrowest = this.axis === "events" ? Math.min(whole, 8) : whole / (20 * events);
    const span = Math.min(whole, Math.max(narrowest, x1 - x0));
    this.x0 = Math.min(Math.max(x0 + (x1 - x0 - span) / 2, this.first), this.last - span);
    this.x1 = this.x0 + span;
  }

  showBytes(y0, y1) {
    const span = Math.min(this.topBytes, Math.max(64, y1 - y0));
    this.y0 = Math.min(Math.max(y0 + (y1 - y0 - span) / 2, 0), this.topBytes - span);
    this.y1 = this.y0 + span;
  }

  zoom(factor, position = (this.x0 + this.x1) / 2) {
    this.show(position + (this.x0 - position) * factor, position + (this.x1 - position) * factor);
  }

  zoomBytes(factor, bytes = (this.y0 + this.y1) / 2) {
    this.showBytes(bytes + (this.y0 - bytes) * factor, bytes + (this.y1 - bytes) * factor);
  }

  move(dx, dBytes = 0) {
    this.show(this.x0 + dx, this.x1 + dx);
    this.showBytes(this.y0 + dBytes, this.y1 + dBytes);
  }

  // Move the window only as far as it takes to see a position.
  reveal(position) {
    const margin = (this.x1 - this.x0) * 0.05;
    if (position < this.x0 + margin) this.move(position - margin - this.x0);
    else if (position > this.x1 - margin) this.move(position + margin - this.x1);
  }

  revealBytes(low, high) {
    if (low < this.y0) this.move(0, low - this.y0);
    else if (high > this.y1) this.move(0, high - this.y1);
  }
}
