// Attempts over time: waiting, running, and again.

/** Put intervals [from, to], in the order of their beginnings, into as few lanes as hold them. */
function lanes(intervals) {
  const free = [];
  return intervals.map(([from, to]) => {
    let lane = free.findIndex((end) => end <= from);
    if (lane < 0) lane = free.push(0) - 1;
    free[lane] = to;
    return lane;
  });
}

/** Attempts over time, those at the same time below each other: waiting, running, again. */
function timelinePart(page) {
  const t = page.timeline;
  if (!t)
    return part(
      "timeline",
      "Timeline",
      soft("The record has no attempts: an earlier version made it, or nothing of it is trained."),
    );
  const count = t.candidate.length,
    began = Math.min(...[...t.submitted, ...t.start].filter((one) => one !== null));
  const end = Math.max(...[...t.end, ...t.start].filter((one) => one !== null), began + 1);
  const host = el("div", { class: "plot" }),
    again = t.ending.map((one) => one !== "result");
  const order = [...t.candidate.keys()].sort(
    (a, b) => (t.submitted[a] ?? t.start[a] ?? 0) - (t.submitted[b] ?? t.start[b] ?? 0),
  );
  const placed_ = lanes(
      order.map((k) => [t.submitted[k] ?? t.start[k] ?? began, t.end[k] ?? t.start[k] ?? began]),
    ),
    lane = [];
  order.forEach((k, at) => {
    lane[k] = placed_[at];
  });
  const most = Math.max(...placed_) + 1;
  onWidth(host, (width) => {
    const left = 62,
      right = 16,
      row = Math.min(14, Math.max(1.5, 420 / most)),
      height = Math.ceil(most * row),
      inner = width - left - right;
    const axis = {
      label: "time since the first submission",
      unit: end - began > 7200 ? "h" : "min",
      log: false,
      lower: 0,
      upper: (end - began) / (end - began > 7200 ? 3600 : 60),
    };
    const x = (when) => left + (inner * (when - began)) / (end - began),
      bars = svg("g");
    for (let k = 0; k < count; k++) {
      const y = 8 + lane[k] * row,
        start = t.start[k] ?? t.end[k];
      const bar = (from, to, kind) =>
        from !== null &&
        to !== null &&
        bars.append(
          svg("rect", {
            class: kind,
            x: x(from),
            y,
            width: Math.max(x(to) - x(from), 1),
            height: Math.max(row - 1, 0.8),
            pointermove: (event) => {
              const box = host.getBoundingClientRect();
              tip.show(
                host,
                event.clientX - box.left,
                event.clientY - box.top,
                `candidate ${t.candidate[k]}, attempt ${t.attempt[k]}: ${t.ending[k]}\nwaited ${t.start[k] === null ? UNKNOWN : duration(Math.max(0, t.start[k] - t.submitted[k]))}` +
                  `, ran ${t.start[k] === null ? UNKNOWN : duration(t.end[k] - t.start[k])}\n${[t.job[k] && `job ${t.job[k]}`, t.node[k]].filter(Boolean).join(" on ")}`,
              );
            },
            pointerleave: () => tip.hide(),
          }),
        );
      bar(t.submitted[k], start, "waiting");
      bar(
        t.start[k] ?? (again[k] ? t.submitted[k] : null),
        t.end[k],
        again[k] ? "again" : "running",
      );
    }
    const marks = svg("g");
    for (const value of ticks(axis, Math.max(3, Math.floor(inner / 80)))) {
      const at = left + (inner * value) / axis.upper;
      marks.append(
        svg("line", { class: "grid", x1: at, x2: at, y1: 8, y2: 8 + height }),
        svg("text", { x: at, y: height + 25, "text-anchor": "middle" }, short(value)),
      );
    }
    marks.append(
      svg(
        "text",
        { class: "title", x: left + inner / 2, y: height + 44, "text-anchor": "middle" },
        title(axis),
      ),
      svg(
        "text",
        {
          class: "title",
          x: -(8 + height / 2),
          y: 40,
          "text-anchor": "middle",
          transform: "rotate(-90)",
        },
        most > 6 ? "attempts at a time" : "",
      ),
    );
    host.replaceChildren(
      svg(
        "svg",
        { width, height: height + 52, role: "img", "aria-label": "attempts over time" },
        marks,
        bars,
      ),
    );
  });
  const box = (kind, text) =>
    el(
      "span",
      {},
      svg(
        "svg",
        { width: 18, height: 12, "aria-hidden": "true" },
        svg("rect", { class: kind, width: 18, height: 12 }),
      ),
      text,
    );
  const why = {};
  t.ending.forEach((one) => {
    if (one !== "result") why[one] = (why[one] ?? 0) + 1;
  });
  return part(
    "timeline",
    "Timeline",
    el(
      "div",
      { class: "legend" },
      box("waiting", "submitted, waiting"),
      box("running", "running, with a result"),
      box("again", "ended without one"),
    ),
    host,
    soft(
      `${counted(count, "attempt")} from ${new Date(began * 1000).toISOString().slice(0, 16).replace("T", " ")} UTC on` +
        `${t.left_out ? `; ${t.left_out.toLocaleString("en")} earlier ones are left out` : ""}. ` +
        (Object.keys(why).length
          ? `Without a result: ${Object.entries(why)
              .map(([name, n]) => `${n} × ${name}`)
              .join(", ")}.`
          : "All had a result."),
    ),
  );
}
