// The overview's pointer: drag its window, an edge of it, or a new one.

const CURSORS = { left: "ew-resize", right: "ew-resize", window: "grab", new: "crosshair" };

class Overview {
  constructor(page, canvas) {
    [this.page, this.view, this.canvas] = [page, page.view, canvas];
    canvas.addEventListener("pointerdown", (pointer) => this.onDown(pointer));
    canvas.addEventListener("pointermove", (pointer) => this.onMove(pointer));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (this.drag = null));
    canvas.addEventListener("dblclick", () => page.change(() => this.view.fit()));
  }

  positionAt(pointer) {
    const { left, width } = this.canvas.getBoundingClientRect();
    const part = Math.min(1, Math.max(0, (pointer.clientX - left) / width));
    return this.view.first + part * (this.view.last - this.view.first);
  }

  // What a drag from a point moves: "left", "right", the "window", or nothing yet, for a new window.
  gripAt(position) {
    const { view, canvas } = this;
    const near = (8 / canvas.clientWidth) * (view.last - view.first);
    if (view.isWhole) return "new";
    if (Math.abs(position - view.x0) < near) return "left";
    if (Math.abs(position - view.x1) < near) return "right";
    return position > view.x0 && position < view.x1 ? "window" : "new";
  }

  onDown(pointer) {
    const position = this.positionAt(pointer);
    this.drag = { grip: this.gripAt(position), from: position, x0: this.view.x0, x1: this.view.x1, x: pointer.clientX };
    this.canvas.setPointerCapture(pointer.pointerId);
  }

  onMove(pointer) {
    const position = this.positionAt(pointer);
    if (!this.drag) {
      this.canvas.style.cursor = CURSORS[this.gripAt(position)];
    } else if (Math.abs(pointer.clientX - this.drag.x) > 3) {
      this.page.change(() => this.view.show(...this.dragged(position)));
    }
  }

  dragged(position) {
    const { grip, from, x0, x1 } = this.drag;
    const ends = { left: [position, x1], right: [x0, position], new: [from, position] }[grip];
    return ends ? ends.sort((a, b) => a - b) : [x0 + position - from, x1 + position - from];
  }
}
