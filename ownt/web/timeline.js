// The timeline of one run: its canvases, and what pointer, wheel, touch and keys do on it.

class Timeline {
  constructor(page, run) {
    [this.page, this.run, this.view] = [page, run, page.view];
    this.canvas = element("canvas");
    this.overlay = element("canvas");
    this.tip = element("div", { class: "tip", "aria-hidden": "true", hidden: "" });
    this.plot = element("div", {
      class: "plot", tabindex: "0", role: "application", "aria-roledescription": "timeline",
      "aria-label": `Memory of ${run.title}, peak ${humanBytes(run.peakBytes)}. Arrow keys move through events and ` +
        "blocks, plus and minus zoom, P goes to the peak.",
    }, this.canvas, this.overlay, this.tip);
    this.pointers = new Map();
    this.box = { left: 0, top: 0, width: 1, height: 1 }; // until it is drawn
    this.event = run.peakEvent;
    this.block = -1;
    this.listen();
  }

  listen() {
    const on = (name, act, options) => this.plot.addEventListener(name, act.bind(this), options);
    on("pointermove", this.onMove);
    on("pointerdown", this.onDown);
    on("pointerup", this.onUp);
    on("pointercancel", this.onCancel);
    on("pointerleave", this.onLeave);
    on("wheel", this.onWheel, { passive: false });
    on("dblclick", (event) => this.page.change(() => this.view.zoom(0.4, this.positionAt(event.offsetX))));
    on("keydown", this.onKey);
  }

  draw(palette, matches) {
    const { context, width, height, ratio } = prepare(this.canvas);
    this.ratio = ratio;
    const left = parseFloat(getComputedStyle(this.plot).getPropertyValue("--gutter"));
    const [inner, tall] = [width - left - 2, height - 52].map((size) => Math.max(1, Math.floor(size)));
    this.box = { left, top: 26, width: inner, height: tall };
    const [columns, rows] = [this.box.width, this.box.height].map((size) => Math.round(size * ratio));
    this.raster = new Raster(this.run, this.view, columns, rows).paint(palette, matches);
    const scales = { toX: this.toX.bind(this), toY: this.toY.bind(this) };
    const on = { context, palette, view: this.view, box: this.box, ...scales };
    drawBytesAxis(on);
    this.paste(context);
    drawHorizontalAxis(on);
    drawPhases(on, this.run);
    drawPeak(on, this.run);
    this.drawOverlay(palette);
  }

  // Through a canvas of its own: putImageData would wipe the lines of the axis where nothing is held.
  paste(context) {
    const picture = new OffscreenCanvas(this.raster.width, this.raster.height);
    picture.getContext("2d").putImageData(this.raster.image, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(picture, this.box.left, this.box.top, this.box.width, this.box.height);
  }

  toX(position) {
    return this.box.left + (this.box.width * (position - this.view.x0)) / (this.view.x1 - this.view.x0);
  }

  toY(bytes) {
    return this.box.top + this.box.height * (1 - (bytes - this.view.y0) / (this.view.y1 - this.view.y0));
  }

  positionAt(x) {
    return this.view.x0 + ((x - this.box.left) / this.box.width) * (this.view.x1 - this.view.x0);
  }

  bytesAt(y) {
    return this.view.y0 + (1 - (y - this.box.top) / this.box.height) * (this.view.y1 - this.view.y0);
  }

  middleOf(event) {
    return (this.view.position(this.run, event) + this.view.position(this.run, event + 1)) / 2;
  }

  // The block under the cursor outlined, a line through its event, and a ring where it is too small to be seen.
  drawOverlay(palette) {
    const { context } = prepare(this.overlay);
    const { cursor } = this.page;
    if (!cursor) return;
    context.strokeStyle = context.fillStyle = palette.ink;
    const x = this.toX(cursor.position);
    if (x >= this.box.left && x <= this.box.left + this.box.width) {
      verticalLine(context, x, this.box.top, this.box.top + this.box.height);
    }
    if (cursor.timeline === this && this.block >= 0) this.drawOutline(context, palette, x);
  }

  drawOutline(context, palette, x) {
    const columns = this.raster.outline(this.block);
    const at = (column, row) => [this.box.left + column / this.ratio, this.box.top + row / this.ratio];
    context.beginPath();
    const line = (column, row) => context.lineTo(...at(column, row));
    for (const [column, first] of columns) [0, 1].forEach((side) => line(column + side, first));
    for (const [column, , after] of columns.reverse()) [1, 0].forEach((side) => line(column + side, after));
    context.closePath();
    context.lineWidth = 2;
    context.stroke();
    context.fillStyle = palette.css(palette.surface, 0.25);
    context.fill();
    if (columns.length || !this.run.isLive(this.block, this.event)) return;
    const [low, high] = this.extent(this.block, this.event);
    context.beginPath();
    context.arc(x, this.toY((low + high) / 2), 5, 0, 2 * Math.PI);
    context.stroke();
  }

  extent(block, event) {
    const stack = this.run.stackAt(event);
    const low = sum(stack.slice(0, stack.indexOf(block)).map((each) => this.run.bytes[each]));
    return [low, low + this.run.bytes[block]];
  }

  // What is under a point: its event and its block, -1 for none.
  pick(x, y) {
    const column = Math.floor((x - this.box.left) * this.ratio);
    const row = Math.floor((y - this.box.top) * this.ratio);
    const event = this.raster.columns[Math.min(this.raster.width - 1, Math.max(0, column))];
    return { event: event < 0 ? this.run.last : event, block: this.raster.blockAt(column, row) };
  }

  onMove(pointer) {
    const held = this.pointers.get(pointer.pointerId);
    if (held) this.drag(pointer, held);
    else this.hover(pointer);
  }

  hover(pointer) {
    if (!this.raster) return;
    const [x, y] = this.pointOf(pointer);
    const { event, block } = this.pick(x, y);
    this.page.pointAt(this, event, block, this.positionAt(x));
    this.placeTip(x, y);
    this.page.lastHoverMs = performance.now() - pointer.timeStamp;
  }

  pointOf(pointer) {
    const { left, top } = this.plot.getBoundingClientRect();
    return [pointer.clientX - left, pointer.clientY - top];
  }

  placeTip(x, y) {
    this.tip.hidden = this.block < 0;
    if (this.tip.hidden) return;
    const { run, block } = this;
    const path = run.text("path", block) || "(no module)";
    this.tip.replaceChildren(element("b", {}, humanBytes(run.bytes[block])), ` ${path}`);
    const { offsetWidth, offsetHeight } = this.tip;
    const left = x + 16 + offsetWidth < this.plot.clientWidth ? x + 16 : Math.max(0, x - 16 - offsetWidth);
    this.tip.style.translate = `${left}px ${Math.max(0, y - 12 - offsetHeight)}px`;
  }

  onDown(pointer) {
    if (pointer.button) return;
    const [x, y] = this.pointOf(pointer);
    this.pointers.set(pointer.pointerId, { x, y, far: false });
    this.plot.setPointerCapture(pointer.pointerId);
  }

  // One pointer moves the window, two stretch it.
  drag(pointer, held) {
    const [x, y] = this.pointOf(pointer);
    if (!held.far && Math.hypot(x - held.x, y - held.y) < 5) return;
    this.tip.hidden = true;
    const others = [...this.pointers.values()].filter((each) => each !== held);
    this.page.change(() => (others.length ? this.pinch(held, others[0], x, y) : this.pan(x - held.x, y - held.y)));
    Object.assign(held, { x, y, far: true });
    others.forEach((other) => (other.far = true));
  }

  pan(dx, dy) {
    const { view, box } = this;
    view.move((-dx / box.width) * (view.x1 - view.x0), (dy / box.height) * (view.y1 - view.y0));
  }

  pinch(held, other, x, y) {
    const stretch = (before, after) => Math.min(4, Math.max(0.25, Math.max(20, before) / Math.max(20, after)));
    this.view.zoom(stretch(Math.abs(held.x - other.x), Math.abs(x - other.x)), this.positionAt(other.x));
    this.view.zoomBytes(stretch(Math.abs(held.y - other.y), Math.abs(y - other.y)), this.bytesAt(other.y));
  }

  onUp(pointer) {
    const held = this.pointers.get(pointer.pointerId);
    this.pointers.delete(pointer.pointerId);
    if (!held || held.far) return;
    this.hover(pointer);
    if (this.block < 0) this.page.letGo();
    else this.page.keep();
    if (pointer.pointerType === "touch") this.tip.hidden = true;
  }

  onCancel(pointer) {
    this.pointers.delete(pointer.pointerId);
  }

  onLeave() {
    this.tip.hidden = true;
    if (!this.pointers.size) this.page.leave();
  }

  // The wheel scrolls the page, unless the timeline is in focus or Ctrl is held, as pinching on a touchpad does.
  onWheel(wheel) {
    const isZoom = wheel.ctrlKey || wheel.metaKey || wheel.shiftKey || document.activeElement === this.plot;
    const isSideways = Math.abs(wheel.deltaX) > Math.abs(wheel.deltaY) && !wheel.shiftKey;
    if (!isZoom && !isSideways) return;
    wheel.preventDefault();
    const [x, y] = this.pointOf(wheel);
    const factor = Math.exp(Math.max(-60, Math.min(60, wheel.deltaY || wheel.deltaX)) * 0.005);
    this.page.change(() => {
      if (isSideways) this.pan(-wheel.deltaX, 0);
      else if (wheel.shiftKey) this.view.zoomBytes(factor, this.bytesAt(y));
      else this.view.zoom(factor, this.positionAt(x));
    });
  }

  onKey(key) {
    const act = key.ctrlKey || key.metaKey || key.altKey ? undefined : KEYS[key.key];
    if (!act) return;
    key.preventDefault();
    this.tip.hidden = true;
    act(this, key.shiftKey);
  }
}
