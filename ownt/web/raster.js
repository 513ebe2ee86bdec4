// Blocks as pixels. A stack is drawn column by column straight into an image, with the block of each pixel beside it:
// what it costs depends on the size of the picture, not on how often blocks shift, and a hover is one look-up.

const KNOWN_KINDS = ["parameter", "gradient", "optimizer", "buffer", "activation", "workspace"];
const kindVariable = (kind) => `--kind-${KNOWN_KINDS.includes(kind) ? kind : "other"}`;

const mix = (a, b, part) => a.map((value, index) => Math.round(value + (b[index] - value) * part));
const packed = ([red, green, blue]) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;

// The colours of the page, as numbers.
class Palette {
  constructor(kinds) {
    const probe = document.body.appendChild(element("span"));
    this.read = (variable) => {
      probe.style.color = `var(${variable})`;
      return getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3).map(Number);
    };
    this.surface = this.read("--surface");
    this.kinds = kinds.map((kind) => this.read(kindVariable(kind)));
    for (const name of ["ink", "muted", "line", "accent"]) this[name] = this.css(this.read(`--${name}`));
    const pairs = this.kinds.flatMap((colour) => [colour, mix(colour, this.surface, 0.82)]);
    this.shades = Uint32Array.from(pairs.flatMap((colour) => this.shadesOf(colour)));
    probe.remove();
  }

  css([red, green, blue], alpha = 1) {
    return `rgba(${red}, ${green}, ${blue}, ${alpha})`;
  }

  // Two shades that take turns, so that neighbours differ, and one for the gap between them: for each kind first of
  // its colour, then of a faint one for blocks that a search leaves out.
  shadesOf(colour) {
    return [0, 0.13, 0.5].map((part) => packed(mix(colour, this.surface, part)));
  }
}

class Raster {
  constructor(run, view, width, height) {
    [this.run, this.width, this.height] = [run, width, height];
    this.columns = view.columns(run, width);
    this.base = view.y0;
    this.scale = height / (view.y1 - view.y0);
    this.image = new ImageData(width, height);
    this.pixels = new Uint32Array(this.image.data.buffer);
    this.blocks = new Int32Array(width * height).fill(-1); // column by column
    this.stacks = run.kinds.map(() => []);
    this.next = 0;
  }

  row(bytes) {
    return Math.min(this.height, Math.max(0, Math.round(this.height - (bytes - this.base) * this.scale)));
  }

  paint(palette, matches) {
    let previous = -1;
    for (let x = 0; x < this.width && this.columns[x] >= 0; x++) {
      if (this.columns[x] === previous) {
        this.repeatColumn(x);
      } else {
        this.advance(this.columns[x]);
        this.paintColumn(x, palette, matches);
      }
      previous = this.columns[x];
    }
    this.paintEdges(palette, matches);
    return this;
  }

  // Add what was made up to an event, drop what was released: a column's walk sees live blocks only.
  advance(event) {
    const { run } = this;
    for (; this.next < run.blocks && run.start[run.order[this.next]] <= event; this.next++) {
      const block = run.order[this.next];
      this.stacks[run.kind[block]].push(block);
    }
    for (const stack of this.stacks) {
      let kept = 0;
      for (const block of stack) if (run.end[block] > event) stack[kept++] = block;
      stack.length = kept;
    }
  }

  paintColumn(x, palette, matches) {
    const { run, width, height, pixels, blocks } = this;
    const top = this.base + height / this.scale;
    let bytes = 0;
    for (const stack of this.stacks) {
      for (const block of stack) {
        const low = bytes;
        bytes += run.bytes[block];
        if (bytes <= this.base || low >= top) continue;
        const [first, after] = [this.row(bytes), this.row(low)];
        const shades = 6 * run.kind[block] + (matches && !matches[block] ? 3 : 0);
        const shade = palette.shades[shades + (block & 1)];
        for (let y = first; y < after; y++) {
          pixels[y * width + x] = shade;
          blocks[x * height + y] = block;
        }
        if (after - first > 3) pixels[first * width + x] = palette.shades[shades + 2];
      }
    }
  }

  repeatColumn(x) {
    const { width, height, pixels, blocks } = this;
    for (let at = x; at < pixels.length; at += width) pixels[at] = pixels[at - 1];
    blocks.copyWithin(x * height, (x - 1) * height, x * height);
  }

  // A gap where a block that can be seen follows another, so that blocks of one height do not run into each other.
  paintEdges(palette, matches) {
    const { run, width, height, columns, blocks } = this;
    for (let x = 1; x + 2 < width; x++) {
      if (columns[x] === columns[x - 1] || columns[x] < 0) continue;
      for (let y = 0; y < height; y++) {
        const block = blocks[x * height + y];
        const isNew = block >= 0 && run.start[block] > columns[x - 1];
        if (!isNew || blocks[(x + 2) * height + y] !== block) continue;
        this.pixels[y * width + x] = palette.shades[6 * run.kind[block] + (matches && !matches[block] ? 5 : 2)];
      }
    }
  }

  blockAt(x, y) {
    return x >= 0 && x < this.width && y >= 0 && y < this.height ? this.blocks[x * this.height + y] : -1;
  }

  // The outline of a block as [column, first row, row after the last] for each column where it can be seen.
  outline(block) {
    const { run, height, blocks } = this;
    const found = [];
    for (let x = 0; x < this.width; x++) {
      if (this.columns[x] < 0 || !run.isLive(block, this.columns[x])) continue;
      const first = blocks.subarray(x * height, (x + 1) * height).indexOf(block);
      if (first < 0) continue;
      let after = first + 1;
      while (after < height && blocks[x * height + after] === block) after++;
      found.push([x, first, after]);
    }
    return found;
  }
}
