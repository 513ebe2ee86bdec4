// What the page says in words: the figures, the block under the cursor, the choice of colours.

const place = (run) => (run.isEstimate ? "Estimated, nothing computed" : `On ${run.device}`);

function figures(run) {
  const { last } = run;
  const { rest } = processParts(run);
  const size = [`${count(last)} events`, `${count(run.blocks)} blocks`];
  return definitions([
    ["Peak", humanBytes(run.peakBytes), run.moment(run.peakEvent).join(", ")],
    ["At the end", humanBytes(run.total[last]), run.moment(last).join(", ")],
    ["Process, resident", known(run.residentBytes), rest === null ? "" : `${humanBytes(rest)} not the framework's`],
    run.isEstimate ? ["Estimated", ...size] : ["Recorded", humanTime(run.duration), size.join(", ")],
  ]);
}

function definitions(entries) {
  const list = element("dl", { class: "figures" });
  for (const [name, value, note] of entries) {
    const definition = element("dd", {}, element("strong", {}, value), element("small", {}, note));
    list.append(element("div", {}, element("dt", {}, name), definition));
  }
  return list;
}

function figuresDifference([a, b]) {
  const atEnd = (run) => run.total[run.last];
  const cells = (write, of) => [number(write(of(a))), number(write(of(b))), number(signed(of(b) - of(a), write))];
  return table("Figures of both runs", ["", "A", "B", "B − A"], [
    row("Peak", ...differenceCells(a.peakBytes, b.peakBytes)),
    row("At the end", ...differenceCells(atEnd(a), atEnd(b))),
    residentDifference(a, b),
    ...(a.isEstimate || b.isEstimate ? [] : [row("Time", ...cells(humanTime, (run) => run.duration))]),
    row("Events", ...cells(count, (run) => run.last)),
  ]);
}

function blockEntries(run, block, event) {
  const bytes = run.bytes[block];
  return [
    ["Tensor", run.text("name", block) || "(no name)"],
    ["Module", run.text("path", block) || "(no module)"],
    ["Op", run.text("op", block) || "–"],
    ["Shape", run.text("shape", block) || "–"],
    ["Kind", run.kinds[run.kind[block]]],
    ["Bytes", `${humanBytes(bytes)}, ${percent(bytes, run.total[event])} of what is live`],
    ["Line", run.text("line", block) || "–"],
    ["Life", run.life(block)],
  ];
}

function showBlock(run, block, event) {
  const entry = (name, text, className) =>
    element("div", { class: className }, element("dt", {}, name), element("dd", {}, text));
  const entries = block < 0
    ? [entry("No block", "Hover or tap one, or use the arrow keys on the timeline.", "hint")]
    : blockEntries(run, block, event).map(([name, text]) => entry(name, text, name.toLowerCase()));
  document.getElementById("block").replaceChildren(...entries);
}

// One sentence for those who listen.
function spoken(run, block, event, prefix) {
  const moment = [...prefix, ...run.moment(event), `${humanBytes(run.total[event])} live`].join(", ");
  if (block < 0) return moment;
  const act = run.made[event] === block ? "makes " : run.released[event] === block ? "releases " : "";
  const texts = ["path", "name", "op", "shape"].map((column) => run.text(column, block));
  const parts = [humanBytes(run.bytes[block]), run.kinds[run.kind[block]], ...texts];
  return `${act}${parts.filter(Boolean).join(", ")}; ${moment}`;
}

// Light, dark, or as the system has it; kept for the next page where the browser lets a file keep anything.
function chooseTheme(redraw) {
  const apply = (theme) => {
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    redraw();
  };
  const choice = document.getElementById("theme");
  choice.addEventListener("change", (event) => {
    apply(event.target.value);
    try { localStorage.setItem("ownt-theme", event.target.value); } catch {}
  });
  let saved = null;
  try { saved = localStorage.getItem("ownt-theme"); } catch {}
  const input = [...choice.querySelectorAll("input")].find((each) => each.value === saved);
  if (input) input.checked = true;
  apply(input?.value ?? "system");
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
}
