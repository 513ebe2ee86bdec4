// What the keys do on a timeline.

const KEYS = {
  ArrowLeft: (timeline, isFar) => goTo(timeline, timeline.event - stride(timeline, isFar)),
  ArrowRight: (timeline, isFar) => goTo(timeline, timeline.event + stride(timeline, isFar)),
  ArrowUp: (timeline) => climb(timeline, 1),
  ArrowDown: (timeline) => climb(timeline, -1),
  Home: (timeline) => goTo(timeline, 0),
  End: (timeline) => goTo(timeline, timeline.run.last),
  p: (timeline) => goToPeak(timeline),
  P: (timeline) => goToPeak(timeline),
  "+": (timeline) => zoomAtCursor(timeline, 0.5),
  "=": (timeline) => zoomAtCursor(timeline, 0.5),
  "-": (timeline) => zoomAtCursor(timeline, 2),
  "]": (timeline) => zoomBytesAtCursor(timeline, 0.5),
  "[": (timeline) => zoomBytesAtCursor(timeline, 2),
  0: ({ page, view }) => page.change(() => view.fit()),
  Escape: ({ page }) => page.letGo(),
};

// A fiftieth of the window in events, at least one.
function stride({ run, view }, isFar) {
  return isFar ? Math.max(1, Math.round((view.eventAt(run, view.x1) - view.eventAt(run, view.x0)) / 50)) : 1;
}

// To an event, and to the block that it made or released, if it is one of these, or else the one at hand.
function goTo(timeline, wanted) {
  const { run } = timeline;
  const event = Math.min(run.last, Math.max(0, wanted));
  const [made, released] = [run.made[event], run.released[event]];
  const block = made >= 0 ? made : released >= 0 ? released : timeline.block;
  moveCursor(timeline, event, block);
}

function goToPeak(timeline) {
  const { run } = timeline;
  const [largest = -1] = run.largestAt(run.peakEvent, 1);
  moveCursor(timeline, run.peakEvent, run.made[run.peakEvent] >= 0 ? run.made[run.peakEvent] : largest);
}

function climb(timeline, step) {
  const stack = timeline.run.stackAt(timeline.event);
  if (!stack.length) return;
  const at = stack.indexOf(timeline.block);
  const next = at < 0 ? stack.length - 1 : Math.min(stack.length - 1, Math.max(0, at + step));
  moveCursor(timeline, timeline.event, stack[next]);
}

function moveCursor(timeline, event, block) {
  const { page, view, run } = timeline;
  const position = timeline.middleOf(event);
  const { x0, y0 } = view;
  view.reveal(position);
  if (block >= 0 && run.isLive(block, event)) view.revealBytes(...timeline.extent(block, event));
  page.pointAt(timeline, event, block, position);
  page.keep();
  if (view.x0 !== x0 || view.y0 !== y0) page.redraw();
}

function zoomAtCursor({ page, view }, factor) {
  const position = page.cursor?.position;
  const isInside = position >= view.x0 && position <= view.x1;
  page.change(() => view.zoom(factor, isInside ? position : undefined));
}

function zoomBytesAtCursor(timeline, factor) {
  const { page, view, run, block, event } = timeline;
  const isLive = page.cursor && block >= 0 && run.isLive(block, event);
  const [low, high] = isLive ? timeline.extent(block, event) : [view.y0, view.y1];
  page.change(() => view.zoomBytes(factor, (low + high) / 2));
}
