// A chart with hover and zoom: curves with bands, points on a canvas, a stepped front.

const EDGES = { left: 62, right: 14, top: 10, bottom: 44 };
const NEAR = 26; // pixels within which the pointer finds a point

function style(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** Least and greatest of what is known, a little widened; on a logarithmic axis of what is above 0. */
function reach(values, log) {
  let low = Infinity,
    high = -Infinity;
  for (const one of values) {
    if (one === null || one === undefined || (log && one <= 0)) continue;
    if (one < low) low = one;
    if (one > high) high = one;
  }
  if (low > high) return log ? [1, 10] : [0, 1];
  if (log) return low === high ? [low / 2, high * 2] : [low / 1.1, high * 1.1];
  const more = low === high ? Math.abs(low) * 0.1 || 1 : (high - low) * 0.04;
  return [low - more, high + more];
}

class Chart {
  /**
   * spec: x and y as {label, unit, log}; curves [{name, colour, x, y, low, high}];
   * points [{x, y, colour, candidate}]; front [[x, y]]; words(point) for the tip; pick(candidate).
   */
  constructor(spec) {
    this.spec = { curves: [], points: [], front: [], ...spec };
    this.points = this.spec.points
      .filter((one) => one.y !== null && one.x !== null && (!spec.x.log || one.x > 0))
      .sort((a, b) => a.x - b.x);
    this.plot = el("div", { class: "plot" });
    this.tools = el(
      "div",
      { class: "tools" },
      el("button", { type: "button", click: () => this.zoom(0.5), "aria-label": "zoom in" }, "+"),
      el("button", { type: "button", click: () => this.zoom(2), "aria-label": "zoom out" }, "−"),
      el("button", { type: "button", click: () => this.reset() }, "whole"),
      el("span", { class: "soft" }, "drag to zoom"),
    );
    this.node = el(
      "figure",
      {},
      el("figcaption", {}, spec.caption),
      this.plot,
      this.legend(),
      this.tools,
    );
    this.bounds();
    onWidth(this.plot, (width) => this.draw(width));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
      this.draw(this.width),
    );
  }

  legend() {
    const line = (name, hue, dash) =>
      el(
        "span",
        {},
        svg(
          "svg",
          { width: 22, height: 10, "aria-hidden": "true" },
          svg("line", {
            x1: 0,
            x2: 22,
            y1: 5,
            y2: 5,
            stroke: hue,
            "stroke-width": 3,
            "stroke-dasharray": dash,
          }),
        ),
        name,
      );
    const dot = ([name, hue]) =>
      el(
        "span",
        {},
        svg(
          "svg",
          { width: 12, height: 12, "aria-hidden": "true" },
          svg("circle", { cx: 6, cy: 6, r: 4, fill: hue }),
        ),
        name,
      );
    return el(
      "div",
      { class: "legend" },
      this.spec.curves.map((one) => line(one.name, one.colour)),
      (this.spec.kinds ?? []).map(dot),
      this.spec.front.length ? line("front", "var(--ink)", "5 3") : null,
    );
  }

  bounds() {
    const { curves, points, x, y } = this.spec;
    const all = (name) => [
      ...points.map((one) => one[name]),
      ...curves.flatMap((one) => one[name]),
    ];
    const sides = (name) =>
      curves.flatMap((one) => [...(one.low ?? []), ...(one.high ?? [])]).filter(() => name === "y");
    const [left, right] = reach(all("x"), x.log),
      [bottom, top] = reach([...all("y"), ...sides("y")], y.log);
    this.whole = { x: { ...x, lower: left, upper: right }, y: { ...y, lower: bottom, upper: top } };
    this.view = this.whole;
  }

  reset() {
    this.view = this.whole;
    this.draw(this.width);
  }

  /** Part of an axis, between two shares of what is seen of it. */
  part(axis, from, to) {
    const raw = (share_) =>
      axis.log
        ? axis.lower * (axis.upper / axis.lower) ** share_
        : axis.lower + share_ * (axis.upper - axis.lower);
    return { ...axis, lower: raw(from), upper: raw(to) };
  }

  zoom(factor, middle = [0.5, 0.5]) {
    const cut = (axis, at) => this.part(axis, at - at * factor, at + (1 - at) * factor);
    this.view = { x: cut(this.view.x, middle[0]), y: cut(this.view.y, middle[1]) };
    this.draw(this.width);
  }

  draw(width) {
    if (!width) return;
    this.width = width;
    this.inner = width - EDGES.left - EDGES.right;
    this.height = Math.round(Math.min(Math.max(this.inner * 0.62, 190), 300));
    const { view } = this;
    this.x = (value) => EDGES.left + placed(view.x, value) * this.inner;
    this.y = (value) => EDGES.top + (1 - placed(view.y, value)) * this.height;
    const id = (this.id ??= `clip-${Math.random().toString(36).slice(2)}`);
    const area = { x: EDGES.left, y: EDGES.top, width: this.inner, height: this.height };
    this.over = svg("g");
    const drawing = svg(
      "svg",
      {
        width,
        height: this.height + EDGES.top + EDGES.bottom,
        tabindex: "0",
        role: "application",
        "aria-label": `${this.spec.caption}; arrow keys go from point to point, plus and minus zoom, 0 shows all`,
        pointermove: (event) => this.move(event),
        pointerleave: () => this.leave(),
        pointerdown: (event) => this.press(event),
        pointerup: (event) => this.release(event),
        dblclick: () => this.reset(),
        keydown: (event) => this.key(event),
      },
      svg("defs", {}, svg("clipPath", { id }, svg("rect", area))),
      this.axes(),
      svg(
        "g",
        { "clip-path": `url(#${id})` },
        this.spec.curves.map((one) => this.curve(one)),
        this.front(),
      ),
      svg("rect", { ...area, fill: "transparent" }),
      this.over,
    );
    this.drawing = drawing;
    this.plot.replaceChildren(...(this.points.length ? [this.canvas(area), drawing] : [drawing]));
  }

  axes() {
    const group = svg("g"),
      { x, y } = this.view,
      bottom = EDGES.top + this.height;
    for (const value of ticks(x, Math.max(3, Math.floor(this.inner / 75)))) {
      group.append(
        svg("line", {
          class: "grid",
          x1: this.x(value),
          x2: this.x(value),
          y1: EDGES.top,
          y2: bottom,
        }),
        svg("text", { x: this.x(value), y: bottom + 17, "text-anchor": "middle" }, short(value)),
      );
    }
    for (const value of ticks(y, 5)) {
      group.append(
        svg("line", {
          class: "grid",
          x1: EDGES.left,
          x2: EDGES.left + this.inner,
          y1: this.y(value),
          y2: this.y(value),
        }),
        svg(
          "text",
          { x: EDGES.left - 7, y: this.y(value) + 4, "text-anchor": "end" },
          short(value),
        ),
      );
    }
    group.append(
      svg("rect", {
        class: "frame",
        x: EDGES.left,
        y: EDGES.top,
        width: this.inner,
        height: this.height,
      }),
      svg(
        "text",
        { class: "title", x: EDGES.left + this.inner / 2, y: bottom + 36, "text-anchor": "middle" },
        title(x),
      ),
      svg(
        "text",
        {
          class: "title",
          x: -(EDGES.top + this.height / 2),
          y: 13,
          "text-anchor": "middle",
          transform: "rotate(-90)",
        },
        title(y),
      ),
    );
    return group;
  }

  curve(one) {
    const place = (values) =>
      one.x
        .map((x, at) => [x, values[at]])
        .filter(([, y]) => y !== null && y !== undefined)
        .map(([x, y]) => `${this.x(x).toFixed(1)},${this.y(y).toFixed(1)}`);
    const line = place(one.y),
      group = svg("g");
    if (one.low) {
      const band = [...place(one.high), ...place(one.low).reverse()];
      if (band.length > 2)
        group.append(svg("path", { class: "band", fill: one.colour, d: `M${band.join("L")}Z` }));
    }
    // What holds until something better is found goes in steps.
    const steps = line.map((at) => at.split(",")).map(([x, y]) => `H${x}V${y}`);
    const d = one.dots ? `M${line.join("L")}` : `M${line[0]}${steps.join("")}`;
    if (line.length) group.append(svg("path", { class: "curve", stroke: one.colour, d }));
    if (line.length === 1 || one.dots)
      for (const at of line) {
        const [cx, cy] = at.split(",");
        group.append(svg("circle", { cx, cy, r: 3, fill: one.colour }));
      }
    return group;
  }

  /** The front as steps: up to the size of a point nothing smaller was better. */
  front() {
    if (!this.spec.front.length) return null;
    const d = this.spec.front
      .map(([x, y], at) => (at ? `H${this.x(x)}V${this.y(y)}` : `M${this.x(x)},${this.y(y)}`))
      .join("");
    return svg("path", { class: "curve", stroke: "var(--ink)", "stroke-dasharray": "5 3", d });
  }

  /** Points lie under the drawing on a canvas, for there may be tens of thousands. */
  canvas(area) {
    const canvas = el("canvas"),
      scale = window.devicePixelRatio || 1,
      pen = canvas.getContext("2d");
    canvas.width = area.width * scale;
    canvas.height = area.height * scale;
    Object.assign(canvas.style, {
      left: `${area.x}px`,
      top: `${area.y}px`,
      width: `${area.width}px`,
      height: `${area.height}px`,
    });
    pen.scale(scale, scale);
    pen.translate(-area.x, -area.y);
    const hues = {},
      size = this.points.length > 3000 ? 2 : 3.5;
    pen.globalAlpha = this.points.length > 300 ? 0.6 : 0.85;
    for (const one of this.points) {
      pen.fillStyle = hues[one.colour] ??= style(one.colour) || one.colour;
      pen.beginPath();
      pen.arc(this.x(one.x), this.y(one.y), size, 0, 7);
      pen.fill();
    }
    return canvas;
  }

  // --- pointer and keys --------------------------------------------------------------------------

  at(event) {
    const box = this.plot.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  move(event) {
    const [x, y] = this.at(event);
    if (this.pressed) {
      const [from, up] = this.pressed;
      this.over.replaceChildren(
        svg("rect", {
          class: "select",
          x: Math.min(x, from),
          y: Math.min(y, up),
          width: Math.abs(x - from),
          height: Math.abs(y - up),
        }),
      );
      return;
    }
    if (this.points.length) {
      let found = null,
        near = NEAR ** 2;
      for (const one of this.points) {
        const away = (this.x(one.x) - x) ** 2 + (this.y(one.y) - y) ** 2;
        if (away < near) {
          near = away;
          found = one;
        }
      }
      this.tell(found);
    } else if (this.spec.curves.length) {
      const xs = this.longest().x;
      let best = 0;
      xs.forEach((value, at) => {
        if (Math.abs(this.x(value) - x) < Math.abs(this.x(xs[best]) - x)) best = at;
      });
      this.read(xs[best]);
    }
  }

  leave() {
    if (!this.pressed) this.over.replaceChildren();
    tip.hide();
  }

  press(event) {
    if (event.pointerType === "touch") return;
    this.pressed = this.at(event);
    this.drawing.setPointerCapture(event.pointerId);
  }

  release(event) {
    const from = this.pressed,
      to = this.at(event);
    this.pressed = null;
    this.over?.replaceChildren();
    if (from && Math.abs(to[0] - from[0]) > 8 && Math.abs(to[1] - from[1]) > 8) {
      const across = [from[0], to[0]]
        .map((x) => (x - EDGES.left) / this.inner)
        .sort((a, b) => a - b);
      const up = [from[1], to[1]]
        .map((y) => 1 - (y - EDGES.top) / this.height)
        .sort((a, b) => a - b);
      this.view = { x: this.part(this.view.x, ...across), y: this.part(this.view.y, ...up) };
      this.draw(this.width);
    } else if (this.found && this.spec.pick) this.spec.pick(this.found.candidate);
  }

  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "+") this.zoom(0.5);
    else if (event.key === "-") this.zoom(2);
    else if (event.key === "0") this.reset();
    else if (event.key === "Enter" && this.found && this.spec.pick)
      this.spec.pick(this.found.candidate);
    else if (step) {
      event.preventDefault();
      const all = this.points.length ? this.points : (this.longest()?.x ?? []);
      this.number = Math.min(Math.max((this.number ?? -1) + step, 0), all.length - 1);
      if (this.points.length) this.tell(all[this.number]);
      else if (all.length) this.read(all[this.number]);
      return;
    } else return;
    this.drawing.focus();
  }

  /** Show a point. */
  tell(point) {
    this.found = point;
    if (!point) {
      this.over.replaceChildren();
      tip.hide();
      return;
    }
    const [cx, cy] = [this.x(point.x), this.y(point.y)];
    this.over.replaceChildren(svg("circle", { class: "chosen", cx, cy, r: 6 }));
    tip.show(this.plot, cx, cy, this.spec.words(point));
  }

  longest() {
    return this.spec.curves.reduce(
      (best, one) => (!best || one.x.length > best.x.length ? one : best),
      null,
    );
  }

  /** Read all curves off at a place. */
  read(x) {
    const lines = this.spec.curves
      .map((one) => {
        let at = -1;
        one.x.forEach((value, k) => {
          if (value <= x * (1 + 1e-9) + 1e-12) at = k;
        });
        const value =
          at < 0 || (at === one.x.length - 1 && x > one.x[at] * (1 + 1e-6)) ? null : one.y[at];
        return value === null
          ? null
          : `${one.name}: ${short(value)}` +
              (one.low && one.low[at] !== one.high[at]
                ? ` (${short(one.low[at])} to ${short(one.high[at])})`
                : "");
      })
      .filter(Boolean);
    const at = this.x(x);
    this.over.replaceChildren(
      svg("line", { class: "cursor", x1: at, x2: at, y1: EDGES.top, y2: EDGES.top + this.height }),
    );
    tip.show(
      this.plot,
      at,
      EDGES.top + 50,
      `${this.view.x.label} ${short(x)}${this.view.x.unit ? ` ${this.view.x.unit}` : ""}\n${lines.join("\n")}`,
    );
  }
}
