// Modules as a tree in a table: each row with a button that opens it.

const MOST_ROWS = 500;

class Tree {
  constructor(place, heads, cells) {
    [this.place, this.heads, this.cells] = [place, heads, cells];
    this.open = new Set();
    this.query = "";
  }

  show(root) {
    this.root = root;
    this.render();
  }

  search(query) {
    this.query = query.toLowerCase();
    this.render();
  }

  openAll(isOpen) {
    this.open.clear();
    if (isOpen) for (const node of this.below(this.root)) if (node.children.size) this.open.add(node.path);
    this.render();
  }

  *below(node) {
    for (const child of node.children.values()) {
      yield child;
      yield* this.below(child);
    }
  }

  render() {
    const rows = [...this.rows(this.root, 0)];
    const shown = rows.slice(0, MOST_ROWS).map(([node, depth]) => this.row(node, depth));
    const more = rows.length - MOST_ROWS;
    if (more > 0) shown.push(row(`… and ${count(more)} more: search, or open less`));
    const foot = row("total", ...this.cells(this.root, this.root));
    const focused = document.activeElement?.dataset?.path;
    this.place.replaceChildren(table("Bytes by module", ["Module", ...this.heads], shown, foot));
    const buttons = focused ? [...this.place.querySelectorAll("button")] : [];
    buttons.find((button) => button.dataset.path === focused)?.focus();
  }

  // Rows in order, the largest first; a search opens the way to what it finds.
  *rows(parent, depth) {
    const size = (node) => Math.max(...node.values);
    for (const node of [...parent.children.values()].sort((a, b) => size(b) - size(a))) {
      if (!this.isFound(node) && !this.isOnTheWay(node)) continue;
      yield [node, depth];
      if (!this.isOpen(node)) continue;
      if (node.own.some((bytes) => bytes)) yield [this.own(node), depth + 1];
      yield* this.rows(node, depth + 1);
    }
  }

  isFound(node) {
    return node.path.toLowerCase().includes(this.query);
  }

  isOnTheWay(node) {
    const leads = (child) => this.isFound(child) || this.isOnTheWay(child);
    return this.query !== "" && [...node.children.values()].some(leads);
  }

  isOpen(node) {
    return node.children.size > 0 && (this.open.has(node.path) || (!this.isFound(node) && this.isOnTheWay(node)));
  }

  // What a module with parts holds by itself.
  own(node) {
    return { name: "(itself)", path: node.path, values: node.own, children: new Map() };
  }

  row(node, depth) {
    const name = node.children.size ? this.button(node) : element("span", { class: "leaf" }, node.name);
    const made = row(name, ...this.cells(node, this.root));
    made.firstChild.style.setProperty("--depth", depth);
    made.dataset.path = node.path;
    return made;
  }

  button(node) {
    const made = element("button", { type: "button", class: "node", "aria-expanded": this.isOpen(node) }, node.name);
    made.dataset.path = node.path;
    made.addEventListener("click", () => {
      if (!this.open.delete(node.path)) this.open.add(node.path);
      this.render();
    });
    return made;
  }
}
