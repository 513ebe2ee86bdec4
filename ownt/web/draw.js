// Drawing on canvases: axes, phases, the peak, and the overview of the whole run.

const FONT = "12px system-ui, sans-serif";

// Make a canvas as large as its box in the pixels of the screen, and let drawing go on in CSS pixels.
function prepare(canvas) {
  const ratio = devicePixelRatio || 1;
  const { width, height } = canvas.getBoundingClientRect();
  const [columns, rows] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== columns || canvas.height !== rows) [canvas.width, canvas.height] = [columns, rows];
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width + 1, height + 1);
  context.font = FONT;
  context.lineWidth = 1;
  context.textBaseline = "middle";
  return { context, width, height, ratio };
}

// About `wanted` round numbers inside a range.
function ticks(low, high, wanted) {
  const rough = (high - low) / Math.max(1, wanted);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
  const first = Math.ceil(low / step - 1e-9);
  const length = Math.max(0, Math.floor(high / step + 1e-9) - first + 1);
  return Array.from({ length }, (_, index) => (first + index) * step);
}

function verticalLine(context, x, top, bottom) {
  context.beginPath();
  context.moveTo(Math.round(x) + 0.5, top);
  context.lineTo(Math.round(x) + 0.5, bottom);
  context.stroke();
}

function horizontalLine(context, y, left, right) {
  context.beginPath();
  context.moveTo(left, Math.round(y) + 0.5);
  context.lineTo(right, Math.round(y) + 0.5);
  context.stroke();
}

// As many digits as the distance between two ticks needs.
function byteLabel(bytes, step) {
  const unit = UNITS.find(([scale]) => bytes >= scale) ?? [1, "B"];
  const digits = Math.min(6, Math.max(0, Math.ceil(-Math.log10(step / unit[0]) - 1e-9)));
  return `${(bytes / unit[0]).toFixed(digits)} ${unit[1]}`;
}

function timeLabel(seconds, step, span) {
  const [scale, unit] = [[1, "s"], [1e-3, "ms"], [1e-6, "µs"]].find(([each]) => span >= 2 * each) ?? [1e-9, "ns"];
  const digits = Math.min(6, Math.max(0, Math.ceil(-Math.log10(step / scale) - 1e-9)));
  return `${(seconds / scale).toFixed(digits)} ${unit}`;
}

function drawBytesAxis({ context, palette, view, box }) {
  const marks = ticks(view.y0, view.y1, box.height / 60);
  const step = marks[1] - marks[0] || view.y1 - view.y0;
  context.textAlign = "right";
  for (const bytes of marks) {
    const y = box.top + box.height * (1 - (bytes - view.y0) / (view.y1 - view.y0));
    context.strokeStyle = palette.line;
    horizontalLine(context, y, box.left, box.left + box.width);
    context.fillStyle = palette.muted;
    context.fillText(byteLabel(bytes, step), box.left - 8, y);
  }
}

function drawHorizontalAxis({ context, palette, view, box }) {
  const marks = ticks(view.x0, view.x1, Math.max(3, box.width / 110));
  const step = marks[1] - marks[0] || view.x1 - view.x0;
  context.fillStyle = palette.muted;
  for (const position of marks) {
    const x = box.left + (box.width * (position - view.x0)) / (view.x1 - view.x0);
    if (view.axis === "events" && !Number.isInteger(position)) continue;
    const label = view.axis === "events" ? count(position) : timeLabel(position, step, view.x1 - view.x0);
    const half = context.measureText(label).width / 2;
    context.textAlign = x < box.left + half ? "left" : x > box.left + box.width - half ? "right" : "center";
    context.fillText(label, x, box.top + box.height + 14);
  }
}

// Names above the plot, and a line down it where a phase begins, unless the last such line is near.
function drawPhases({ context, palette, view, box, toX }, run) {
  let lastLine = box.left;
  context.textAlign = "left";
  for (const [name, first, after] of run.phases) {
    const [start, end] = [toX(view.position(run, first)), toX(view.position(run, after))];
    const [left, right] = [Math.max(start, box.left), Math.min(end, box.left + box.width)];
    if (right <= left) continue;
    context.strokeStyle = palette.muted;
    horizontalLine(context, box.top - 5, left + 1, Math.max(left + 2, right - 1));
    context.strokeStyle = palette.css(palette.surface, 0.9);
    if (start > lastLine + 12) verticalLine(context, (lastLine = start), box.top, box.top + box.height);
    context.fillStyle = palette.ink;
    if (context.measureText(name).width < right - left - 4) context.fillText(name, left + 2, box.top - 15);
  }
}

function drawPeak({ context, palette, view, box, toX, toY }, run) {
  const position = (view.position(run, run.peakEvent) + view.position(run, run.peakEvent + 1)) / 2;
  const [x, y] = [toX(position), toY(run.peakBytes)];
  if (x < box.left || x > box.left + box.width) return;
  const onScreen = Math.min(Math.max(y, box.top), box.top + box.height);
  context.strokeStyle = context.fillStyle = palette.ink;
  context.setLineDash([3, 3]);
  verticalLine(context, x, onScreen, box.top + box.height);
  context.setLineDash([]);
  context.beginPath();
  context.arc(x, onScreen, 3.5, 0, 2 * Math.PI);
  context.fill();
  const isLeft = x > box.left + box.width / 2;
  context.textAlign = isLeft ? "right" : "left";
  context.fillText(`peak ${humanBytes(run.peakBytes)}`, x + (isLeft ? -8 : 8), Math.max(onScreen - 9, box.top + 8));
}

// Totals of the whole run: stacked by kind, or as a line for each of two runs.
function drawOverview(canvas, palette, view, runs) {
  const { context, width, height } = prepare(canvas);
  const columns = runs.map((run) => view.columns(run, Math.max(1, Math.floor(width)), view.first, view.last));
  const toY = (bytes) => height - (bytes / view.topBytes) * height;
  if (runs.length === 1) fillKinds(context, palette, runs[0], columns[0], toY);
  else runs.forEach((run, index) => strokeTotal(context, palette, run, columns[index], toY, index));
  context.strokeStyle = palette.line;
  horizontalLine(context, height - 1, 0, width);
  if (!view.isWhole) drawWindow(context, palette, view, width, height);
}

function fillKinds(context, palette, run, columns, toY) {
  columns.forEach((event, x) => {
    let bytes = 0;
    if (event < 0) return;
    run.byKind.forEach((totals, kind) => {
      const low = toY(bytes);
      bytes += totals[event];
      context.fillStyle = palette.css(palette.kinds[kind]);
      context.fillRect(x, toY(bytes), 1, low - toY(bytes));
    });
  });
}

function strokeTotal(context, palette, run, columns, toY, index) {
  context.beginPath();
  columns.forEach((event, x) => event >= 0 && context.lineTo(x, toY(run.total[event])));
  context.strokeStyle = index ? palette.accent : palette.ink;
  context.lineWidth = 1.5;
  context.setLineDash(index ? [5, 3] : []);
  context.stroke();
  context.setLineDash([]);
  context.lineWidth = 1;
}

// What is outside the window fades; its edges have grips.
function drawWindow(context, palette, view, width, height) {
  const [left, right] = [view.x0, view.x1].map((x) => (width * (x - view.first)) / (view.last - view.first));
  context.fillStyle = palette.css(palette.surface, 0.75);
  context.fillRect(0, 0, left, height);
  context.fillRect(right, 0, width - right, height);
  context.strokeStyle = context.fillStyle = palette.ink;
  for (const x of [left, Math.max(right - 1, left + 2)]) {
    verticalLine(context, x, 0, height);
    context.fillRect(x - 1, height / 2 - 8, 3, 16);
  }
}
