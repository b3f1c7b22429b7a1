// Elements out of data. Text becomes text nodes, never HTML: what a model wrote stays what it is.

const SVG = "http://www.w3.org/2000/svg";

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(name, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((one) => one !== null && one !== undefined));
  return node;
}

/** Make an HTML element; functions among the attributes listen to the event of their name. */
function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** Make an SVG element. */
function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

/** Make a table: columns are [name, isNumber], rows are arrays of texts or nodes. */
function table(columns, rows) {
  const kind = (at) => (columns[at][1] ? "number" : "text");
  return el(
    "div",
    { class: "wide" },
    el(
      "table",
      {},
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          columns.map(([name], at) => el("th", { scope: "col", class: kind(at) }, name)),
        ),
      ),
      el(
        "tbody",
        {},
        rows.map((row) =>
          el(
            "tr",
            {},
            row.map((one, at) => el("td", { class: kind(at) }, one)),
          ),
        ),
      ),
    ),
  );
}

/** Make a list of names and values; values that are not known are left out. */
function facts(pairs) {
  return el(
    "dl",
    { class: "facts" },
    pairs
      .filter(([, value]) => value !== null && value !== undefined && value !== "")
      .map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]),
  );
}

const AHEAD = "1000px"; // from the window at which a picture is drawn

/** Call `draw(width)` once a node comes near, and whenever its width changes from then on. */
function onWidth(node, draw) {
  let known = 0;
  const sizes = new ResizeObserver(() => {
    const width = Math.floor(node.clientWidth);
    if (width > 0 && width !== known) draw((known = width));
  });
  const near = new IntersectionObserver(
    (seen) => {
      if (seen.some((one) => one.isIntersecting)) begin();
    },
    { rootMargin: AHEAD },
  );
  const begin = () => {
    near.disconnect();
    sizes.observe(node);
  };
  near.observe(node);
  addEventListener("beforeprint", begin, { once: true });
}

/** A small box beside the pointer; one for the whole page. */
const tip = {
  node: null,
  show(host, x, y, text) {
    this.node ??= el("div", { class: "tip", role: "status" });
    if (this.node.parentNode !== host) host.append(this.node);
    this.node.textContent = text;
    const left = Math.min(x + 14, host.clientWidth - this.node.offsetWidth - 2);
    this.node.style.left = `${Math.max(0, left)}px`;
    this.node.style.top = `${Math.max(0, y - this.node.offsetHeight - 10)}px`;
  },
  hide() {
    this.node?.remove();
  },
};
