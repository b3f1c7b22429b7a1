// The map of an archive: true Voronoi cells, who lives in them after each generation.

/** Who lives where after a generation: per cell candidate, fitness, how often it changed hands. */
function standing(map, generation, last) {
  const cells = map.elite.map(() => ({ candidate: -1, fitness: null, replaced: 0 }));
  for (const [when, cell, candidate, fitness] of map.events) {
    if (when > generation) break;
    const one = cells[cell];
    one.replaced += one.candidate >= 0 && one.candidate !== candidate ? 1 : 0;
    one.candidate = candidate;
    one.fitness = fitness;
  }
  if (generation >= last)
    cells.forEach((one, cell) => {
      // elites may have been trained on since
      one.candidate = map.elite[cell];
      one.fitness = map.fitness[cell];
    });
  return cells;
}

const MARGIN = { left: 66, right: 12, top: 8, bottom: 46 };

class ArchiveMap {
  /** Draw `name` of the page's maps into a figure; `choose(candidate)` is called for a cell. */
  constructor(page, name, choose) {
    this.page = page;
    this.map = page.maps[name];
    this.name = name;
    this.choose = choose;
    this.last = Math.max(0, page.overview.generation - 1);
    this.generation = this.last;
    this.at = -1; // place that the keyboard is at
    this.plot = el("div", { class: "plot" });
    this.legend = el("div", { class: "legend" });
    this.node = el(
      "figure",
      { "data-map": name },
      el("figcaption", {}, name === "network" ? "Networks" : "Prompts"),
      this.plot,
      this.legend,
    );
    const values = [...this.map.events.map((event) => event[3]), ...this.map.fitness].filter(
      (one) => one !== null,
    );
    this.low = Math.min(...(values.length ? values : [0]));
    this.high = Math.max(...(values.length ? values : [1]));
    onWidth(this.plot, (width) => this.draw(width));
  }

  show(generation) {
    this.generation = generation;
    if (this.width) this.draw(this.width);
  }

  /** The fittest elite of each polygon, which cells of more axes may share. */
  tops() {
    const found = this.map.shapes.map(() => null);
    standing(this.map, this.generation, this.last).forEach((one, cell) => {
      const place = this.map.place_of_cell[cell],
        before = found[place];
      if (one.candidate >= 0 && (!before || one.fitness > before.fitness))
        found[place] = { ...one, cell, others: (before?.others ?? -1) + 1 };
      else if (one.candidate >= 0) before.others += 1;
    });
    return found;
  }

  draw(width) {
    this.width = width;
    const inner = width - MARGIN.left - MARGIN.right,
      height = Math.min(inner, 430);
    this.x = (part) => MARGIN.left + part * inner;
    this.y = (part) => MARGIN.top + (1 - part) * height;
    const tops = (this.tops_ = this.tops()),
      clip = this.page.candidates.network_clipped;
    const cells = svg("g"),
      marks = svg("g", { class: "over" });
    this.map.shapes.forEach((shape, place) => {
      const one = tops[place];
      const path = `M${shape.map(([x, y]) => `${this.x(x).toFixed(1)},${this.y(y).toFixed(1)}`).join("L")}Z`;
      cells.append(
        svg("path", {
          d: path,
          class: one ? "cell filled" : "cell empty",
          fill: one ? this.shade(one.fitness) : null,
          "data-candidate": one ? one.candidate : null,
          click: one && (() => this.pick(place)),
          pointermove: (event) => this.hover(event, place),
          pointerleave: () => tip.hide(),
        }),
      );
      if (!one) return;
      const [x, y] = this.map.places[place];
      if (this.name === "network" && clip[one.candidate])
        marks.append(svg("path", { d: path, fill: `url(#hatch-${this.name})` }));
      if (one.replaced)
        marks.append(
          svg("circle", {
            class: "contest",
            cx: this.x(x),
            cy: this.y(y),
            r: Math.min(2 + Math.sqrt(one.replaced), 7),
          }),
        );
    });
    this.ring = svg("g");
    const drawing = svg(
      "svg",
      {
        width,
        height: height + MARGIN.top + MARGIN.bottom,
        tabindex: "0",
        role: "application",
        "aria-label": `map of the ${this.name} archive; arrow keys go from cell to cell, Enter shows a network`,
        keydown: (event) => this.key(event),
        blur: () => tip.hide(),
      },
      this.pattern(),
      cells,
      marks,
      this.axes(inner, height),
      this.ring,
    );
    this.plot.replaceChildren(drawing);
    this.mark();
    this.legend.replaceChildren(...this.keys());
  }

  shade(fitness) {
    return colour(this.high > this.low ? (fitness - this.low) / (this.high - this.low) : 1);
  }

  value(fitness) {
    return this.name === "network" ? share(fitness) : short(fitness);
  }

  pattern() {
    return svg(
      "defs",
      {},
      svg(
        "pattern",
        {
          id: `hatch-${this.name}`,
          width: 7,
          height: 7,
          patternUnits: "userSpaceOnUse",
          patternTransform: "rotate(45)",
        },
        svg("line", { class: "hatch", x1: 0, y1: 0, x2: 0, y2: 7 }),
      ),
    );
  }

  axes(inner, height) {
    const [across, upwards] = this.map.axes,
      group = svg("g");
    group.append(svg("rect", { class: "frame", x: this.x(0), y: this.y(1), width: inner, height }));
    for (const value of ticks(across, Math.max(3, Math.floor(inner / 80)))) {
      const x = this.x(placed(across, value));
      group.append(
        svg("line", { class: "frame", x1: x, x2: x, y1: this.y(0), y2: this.y(0) + 5 }),
        svg("text", { x, y: this.y(0) + 18, "text-anchor": "middle" }, short(value)),
      );
    }
    for (const value of ticks(upwards)) {
      const y = this.y(placed(upwards, value));
      group.append(
        svg("line", { class: "frame", x1: this.x(0) - 5, x2: this.x(0), y1: y, y2: y }),
        svg("text", { x: this.x(0) - 8, y: y + 4, "text-anchor": "end" }, short(value)),
      );
    }
    group.append(
      svg(
        "text",
        { class: "title", x: this.x(0.5), y: this.y(0) + 38, "text-anchor": "middle" },
        title(across),
      ),
      svg(
        "text",
        {
          class: "title",
          x: -this.y(0.5),
          y: 13,
          "text-anchor": "middle",
          transform: "rotate(-90)",
        },
        title(upwards),
      ),
    );
    return group;
  }

  keys() {
    const stops = [0, 0.25, 0.5, 0.75, 1].map((part) =>
      svg("stop", { offset: part, "stop-color": colour(part) }),
    );
    const id = `scale-${this.name}`;
    const box = (...inside) =>
      svg("svg", { width: 18, height: 14, "aria-hidden": "true" }, ...inside);
    const rect = (more) => svg("rect", { width: 18, height: 14, ...more });
    const occupied = this.tops_.filter(Boolean).length;
    const extra = this.map.axes.slice(2).map(title);
    return [
      el(
        "span",
        {},
        this.value(this.low),
        svg(
          "svg",
          { width: 90, height: 12, role: "img", "aria-label": "colour scale" },
          svg("defs", {}, svg("linearGradient", { id }, stops)),
          rect({ width: 90, fill: `url(#${id})` }),
        ),
        `${this.value(this.high)} ${this.map.measure}`,
      ),
      el(
        "span",
        {},
        box(rect({ class: "empty" })),
        `empty (${this.map.shapes.length - occupied} of ${this.map.shapes.length})`,
      ),
      this.name === "network"
        ? el(
            "span",
            {},
            box(rect({ fill: colour(0.6) }), rect({ fill: `url(#hatch-${this.name})` })),
            "clipped: measured beyond the bounds",
          )
        : null,
      el(
        "span",
        {},
        box(rect({ fill: colour(0.6) }), svg("circle", { class: "contest", cx: 9, cy: 7, r: 4 })),
        "contested: changed hands; the larger, the oftener",
      ),
      extra.length
        ? el(
            "span",
            {},
            `of more axes (${extra.join(", ")}) the first two; a polygon has the fittest of its cells`,
          )
        : null,
    ].filter(Boolean);
  }

  words(place) {
    const one = this.tops_[place],
      [across, upwards] = this.map.axes,
      [x, y] = this.map.places[place];
    const raw = (axis, part) =>
      short(
        axis.log
          ? axis.lower * (axis.upper / axis.lower) ** part
          : axis.lower + part * (axis.upper - axis.lower),
      );
    const where = `${across.label} about ${raw(across, x)}, ${upwards.label} about ${raw(upwards, y)}`;
    if (!one) return `empty\n${where}`;
    return (
      `candidate ${one.candidate}: ${this.map.measure} ${this.value(one.fitness)}\n${where}\nchanged hands ${counted(one.replaced, "time")}` +
      `, ${counted(this.map.offers[one.cell], "candidate")} in all` +
      (one.others ? `\nand ${counted(one.others, "elite")} more` : "")
    );
  }

  hover(event, place) {
    const box = this.plot.getBoundingClientRect();
    tip.show(this.plot, event.clientX - box.left, event.clientY - box.top, this.words(place));
  }

  pick(place) {
    this.at = place;
    this.choose(this.tops_[place].candidate);
  }

  /** Outline the cell of the candidate that is shown, and where the keyboard is. */
  mark(candidate = this.shown) {
    this.shown = candidate;
    if (!this.ring) return;
    const place = this.tops_.findIndex((one) => one && one.candidate === candidate);
    const outline = (at, kind) =>
      svg("path", {
        class: kind,
        d: `M${this.map.shapes[at].map(([x, y]) => `${this.x(x)},${this.y(y)}`).join("L")}Z`,
      });
    this.ring.replaceChildren(
      ...(place < 0 ? [] : [outline(place, "chosen"), outline(place, "chosen inner")]),
      ...(this.at >= 0 && this.at !== place ? [outline(this.at, "chosen")] : []),
    );
  }

  /** Go to the nearest cell in the direction of an arrow; Enter shows who lives there. */
  key(event) {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[
      event.key
    ];
    if (event.key === "Enter" && this.at >= 0 && this.tops_[this.at]) this.pick(this.at);
    if (!way) return;
    event.preventDefault();
    const [x, y] = this.at >= 0 ? this.map.places[this.at] : [0.5, 0.5];
    let best = Infinity;
    const from = this.at;
    this.map.places.forEach(([u, v], place) => {
      const along = (u - x) * way[0] + (v - y) * way[1],
        aside = Math.abs((u - x) * way[1]) + Math.abs((v - y) * way[0]);
      if (place !== from && along > 1e-9 && along + 2 * aside < best) {
        best = along + 2 * aside;
        this.at = place;
      }
    });
    this.mark();
    if (this.at >= 0)
      tip.show(
        this.plot,
        this.x(this.map.places[this.at][0]),
        this.y(this.map.places[this.at][1]),
        this.words(this.at),
      );
  }
}
