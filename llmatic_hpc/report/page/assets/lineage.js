// A candidate's ancestors up to the initial network: as a picture, and step by step.

const WIDE = { left: 62, right: 20, top: 16, bottom: 44 };

/** How much better a candidate is than its best parent; null where either has no score. */
function gained(candidates, row) {
  const own = candidates.value("fitness", row);
  const scores = candidates
    .parents(row)
    .map((one) => candidates.value("fitness", one))
    .filter((one) => one !== null);
  return own === null || !scores.length ? null : own - Math.max(...scores);
}

function lineage(candidates, row, choose) {
  const rows = candidates.lineage(row);
  const host = el("div", { class: "plot" });
  onWidth(host, (width) => host.replaceChildren(familyTree(candidates, rows, width, choose)));
  return el(
    "div",
    { id: "lineage" },
    el("h3", {}, `Lineage: ${counted(rows.length, "network")} up to the initial one`),
    host,
    el(
      "div",
      { class: "steps" },
      rows.map((one) => step(candidates, one, choose)),
      beginning(candidates),
    ),
  );
}

/** Generations across, fitness upwards; the initial network, which has no score, at the left. */
function familyTree(candidates, rows, width, choose) {
  const scores = rows.map((row) => candidates.value("fitness", row)).filter((one) => one !== null);
  const [lower, upper] = reach(scores, false),
    height = 190;
  const last = Math.max(1, ...rows.map((row) => candidates.value("generation", row) + 1));
  const x = (row) =>
    WIDE.left +
    16 +
    ((width - WIDE.left - WIDE.right - 32) *
      (row < 0 ? 0 : candidates.value("generation", row) + 1)) /
      last;
  const y = (row) => {
    const score = row < 0 ? null : candidates.value("fitness", row);
    return score === null
      ? WIDE.top + height - 6
      : WIDE.top + (1 - (score - lower) / (upper - lower)) * (height - 26);
  };
  const edges = svg("g"),
    nodes = svg("g"),
    bottom = WIDE.top + height;
  for (const row of rows) {
    const parents = candidates.parents(row);
    for (const parent of parents.length ? parents : [-1]) {
      const [a, b] = [x(parent), x(row)],
        middle = (a + b) / 2;
      edges.append(
        svg("path", {
          class: "edge",
          d: `M${a},${y(parent)}C${middle},${y(parent)} ${middle},${y(row)} ${b},${y(row)}`,
        }),
      );
    }
  }
  for (const row of [...rows, -1]) {
    const score = row < 0 ? null : candidates.value("fitness", row);
    const words =
      row < 0
        ? "initial network"
        : `candidate ${row}: fitness ${share(score)}\n${candidates.made(row)}\n${candidates.instruction(row)}`;
    nodes.append(
      svg("circle", {
        class: "node",
        cx: x(row),
        cy: y(row),
        r: row === rows[0] ? 8 : 6,
        "data-row": row,
        fill: score === null ? "var(--empty)" : colour((score - lower) / (upper - lower)),
        click: row >= 0 && (() => choose(row)),
        pointermove: () => tip.show(nodes.ownerSVGElement.parentNode, x(row), y(row), words),
        pointerleave: () => tip.hide(),
      }),
    );
  }
  const axis = { label: "fitness", lower, upper, unit: "", log: false },
    marks = svg("g");
  for (const value of ticks(axis, 4)) {
    const at = WIDE.top + (1 - (value - lower) / (upper - lower)) * (height - 26);
    marks.append(
      svg("line", { class: "grid", x1: WIDE.left, x2: width - WIDE.right, y1: at, y2: at }),
      svg("text", { x: WIDE.left - 7, y: at + 4, "text-anchor": "end" }, short(value)),
    );
  }
  const stride = Math.max(1, Math.ceil(last / Math.max(2, Math.floor(width / 70))));
  for (let one = 0; one <= last; one += stride)
    marks.append(
      svg(
        "text",
        {
          x: WIDE.left + 16 + ((width - WIDE.left - WIDE.right - 32) * one) / last,
          y: bottom + 17,
          "text-anchor": "middle",
        },
        one ? String(one - 1) : "initial",
      ),
    );
  marks.append(
    svg("rect", {
      class: "frame",
      x: WIDE.left,
      y: WIDE.top,
      width: width - WIDE.left - WIDE.right,
      height,
    }),
    svg(
      "text",
      {
        class: "title",
        x: WIDE.left + (width - WIDE.left - WIDE.right) / 2,
        y: bottom + 36,
        "text-anchor": "middle",
      },
      "generation; without a score at the bottom",
    ),
    svg(
      "text",
      {
        class: "title",
        x: -(WIDE.top + height / 2),
        y: 13,
        "text-anchor": "middle",
        transform: "rotate(-90)",
      },
      "fitness",
    ),
  );
  return svg(
    "svg",
    {
      width,
      height: bottom + WIDE.bottom,
      role: "img",
      "aria-label": "ancestors by generation and fitness",
    },
    marks,
    edges,
    nodes,
  );
}

/** One step, whose texts are made when it is opened. */
function step(candidates, row, choose) {
  const more = gained(candidates, row),
    inside = el("div"),
    prompt = candidates.instruction(row);
  const change =
    more === null
      ? ""
      : `, ${gain(more)} over ${candidates.parents(row).length > 1 ? "the better parent" : "its parent"}`;
  const node = el(
    "details",
    {
      "data-step": row,
      toggle: () => {
        if (node.open && !inside.firstChild) inside.append(...stepTexts(candidates, row, choose));
      },
    },
    el(
      "summary",
      {},
      `Candidate ${row}: ${candidates.made(row)}; fitness ${share(candidates.value("fitness", row))}${change}`,
    ),
    inside,
  );
  if (prompt) node.firstChild.append(el("span", { class: "soft" }, ` · prompt ${prompt}`));
  return node;
}

function stepTexts(candidates, row, choose) {
  const parents = candidates.parents(row),
    repairs = candidates.texts.repairs?.[row] ?? [];
  const written = candidates.completion(row),
    source = candidates.source(row);
  const against = (parents.length ? parents : [-1]).map((parent) => {
    const before = candidates.source(parent);
    return [
      el("h3", {}, `Difference to ${candidates.name(parent)}`),
      before
        ? difference(before, source)
        : el("p", { class: "soft" }, "Its source is not on the record."),
    ];
  });
  return [
    el(
      "p",
      {},
      el("button", { type: "button", click: () => choose(row) }, `show candidate ${row}`),
    ),
    ...against.flat(),
    el(
      "h3",
      {},
      `As it was written (${candidates.value("form", row)}; ${
        {
          fits: "it fitted",
          built: "it could be built, and did not fit",
          parsed: "it parsed, and could not be built",
        }[candidates.value("written", row)] ?? "no network in it, or not known"
      })`,
    ),
    verbatim(written),
    ...(candidates.texts.earlier?.[row] ?? []).map((one) =>
      el("div", {}, el("h3", {}, `Written before, and not kept: ${one.why}`), verbatim(one.completion)),
    ),
    el("h3", {}, repairs.length ? `Repairs: ${repairs.length}` : "Repairs: none"),
    ...repairs.map((one) =>
      el("div", {}, el("p", { class: "soft" }, one.rule), difference(one.before, one.after)),
    ),
  ];
}

function beginning(candidates) {
  return el(
    "details",
    { "data-step": "-1" },
    el("summary", {}, "Initial network"),
    candidates.page.initial
      ? code(candidates.page.initial)
      : el("p", { class: "soft" }, "An earlier version made this record, without its source."),
  );
}
