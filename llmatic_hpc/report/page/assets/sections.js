// The parts of the page beside map and network, each a function of the page's data.

function part(id, heading, ...children) {
  return el(
    "section",
    { id, "aria-labelledby": `${id}-h` },
    el("h2", { id: `${id}-h` }, heading),
    ...children,
  );
}

function soft(...text) {
  return el("p", { class: "soft" }, ...text);
}

function header(page) {
  const o = page.overview,
    sound = page.verdict.sound;
  const [kind, word] = sound
    ? ["good", "Sound"]
    : sound === null
      ? ["warn", "Not verified"]
      : ["bad", "Not sound"];
  const best = o.best,
    fitness = best === null ? null : page.candidates.fitness[best];
  const tile = (value, text) =>
    el("div", { class: "tile" }, el("b", {}, value), el("span", {}, text));
  const filled_ = page.maps.network.elite.filter((one) => one >= 0).length;
  return [
    el("h1", {}, page.name),
    el("p", {}, el("span", { class: `verdict ${kind}` }, `${word}: `), page.verdict.text),
    o.in_flight || o.generation < o.generations
      ? soft(
          `Not at its end: ${o.generation} of ${o.generations} generations` +
            `${o.in_flight ? ", results of one more are not in" : ""}. The page shows the last commit before ${page.made}.`,
        )
      : null,
    el(
      "div",
      { class: "tiles" },
      tile(
        share(fitness),
        best === null ? "no candidate has a score yet" : `best ${o.fitness}, candidate ${best}`,
      ),
      tile(`${o.generation} of ${o.generations}`, "generations"),
      tile(
        o.candidates.toLocaleString("en"),
        `candidates, ${o.scored.toLocaleString("en")} with a score of their own`,
      ),
      tile(`${filled_} of ${page.maps.network.elite.length}`, "cells of the map filled"),
      tile(hours(page.paid.total.hours), `training (${page.paid.unit})`),
      tile(short(page.paid.total.tokens), "tokens written"),
    ),
    soft(`Written by ${o.generator}.${o.training ? ` Trained for ${o.training}.` : ""}`),
  ];
}

function paidPart(page) {
  const { paid } = page,
    h = paid.hours;
  const names = ["written", "valid", "new", "trained", "accepted"];
  const row = (one) => [
    one.name,
    ...names.map((name) => one[name].toLocaleString("en")),
    short(one.tokens),
    hours(one.hours),
  ];
  const columns = (first) => [
    [first, false],
    ...names.map((name) => [name, true]),
    ["tokens", true],
    [paid.unit.replace("-hours", " time"), true],
  ];
  return part(
    "paid",
    "What was paid, and what for",
    facts([
      [`${paid.unit}: training with a score`, hours(h.useful)],
      ["training without one", hours(h.untrainable)],
      ["lost by failures", hours(h.lost_machine)],
      ["lost by preemption", hours(h.lost_preempted)],
      ["lost by limits", hours(h.lost_limit)],
      ["waiting in the queue, summed over candidates", hours(h.queueing)],
      ["coordinator generating", hours(h.coordinator_generating)],
      ["coordinator waiting for results", hours(h.coordinator_idle)],
      ["tokens", short(paid.total.tokens)],
      ...(page.planned ? [["planned / actual", page.planned]] : []),
      [
        "candidates by status",
        Object.entries(page.overview.status)
          .map(([name, count]) => `${count.toLocaleString("en")} ${name}`)
          .join(", "),
      ],
      ["completions", page.overview.completions],
    ]),
    soft(
      "Written: completions. Valid: a network that fits, repaired or not. New: no copy of an earlier one. Trained: an evaluation " +
        "began. Accepted: it entered the map.",
    ),
    table(columns("all"), [row({ ...paid.total, name: "all" })]),
    Object.entries(paid.groups)
      .filter(([, rows]) => rows.length)
      .map(([name, rows]) => [el("h3", {}, `By ${name}`), table(columns(name), rows.map(row))]),
  );
}

const HUES = ["--s0", "--s1", "--s2", "--s3", "--s4", "--s5"];

function progressPart(page) {
  const spent = {
    candidates: ["candidates", ""],
    hours: ["training", page.paid.unit],
    wall: ["wall time, pauses left out", "h"],
  };
  const reached = {
    best: ["best fitness", ""],
    qd_score: ["QD score (sum of the elites' fitness)", ""],
    coverage: ["coverage (share of the cells)", ""],
  };
  const host = el("div", { class: "pair" }),
    select = el(
      "select",
      { change: () => fill(select.value) },
      Object.entries(spent).map(([name, [label, unit]]) =>
        el("option", { value: name }, unit ? `${label} (${unit})` : label),
      ),
    );
  function fill(name) {
    const curves = page.anytime.filter((one) => one.curves[name]?.x);
    host.replaceChildren(
      ...(curves.length
        ? Object.entries(reached).map(
            ([quality, [label, unit]]) =>
              new Chart({
                caption: `${label.replace(/ \(.*/, "")} so far`,
                x: { label: spent[name][0], unit: spent[name][1], log: false },
                y: { label, unit, log: false },
                curves: curves.map((one, at) => ({
                  name: `${one.name}${one.seeds.length > 1 ? `, ${one.seeds.length} seeds` : `, seed ${one.seeds[0]}`}`,
                  colour: `var(${HUES[at % HUES.length]})`,
                  x: one.curves[name].x,
                  y: one.curves[name][quality].mean,
                  low: one.seeds.length > 1 ? one.curves[name][quality].low : null,
                  high: one.curves[name][quality].high,
                })),
              }).node,
          )
        : [soft("Nothing is known of it on this record.")]),
    );
  }
  fill("candidates");
  return part(
    "progress",
    "Progress",
    el("div", { class: "tools" }, el("label", {}, "against", select)),
    host,
    soft(
      "Several seeds of one method: their mean, with a band from the least to the greatest, up to where the first of them ended. " +
        `Here: ${page.anytime.flatMap((one) => one.runs).join(", ")}.`,
    ),
  );
}

const KINDS = [
  ["scored", "--s0"],
  ["elite of the map", "--s1"],
];

function sizesPart(page, choose) {
  const t = page.candidates,
    elites = new Set(page.maps.network.elite);
  const chart = (name, label, unit) => {
    const points = t.status
      .map((status, row) => ({ status, candidate: row, x: t[name][row], y: t.fitness[row] }))
      .filter((one) => one.status === "scored" && one.x !== null && one.x > 0 && one.y !== null)
      .map((one) => ({ ...one, colour: elites.has(one.candidate) ? "--s1" : "--s0" }));
    points.sort((a, b) => a.x - b.x || b.y - a.y);
    const front = [];
    for (const one of points)
      if (!front.length || one.y > front.at(-1)[1]) front.push([one.x, one.y]);
    return points.length
      ? new Chart({
          caption: `Fitness over ${label}`,
          x: { label, unit, log: true },
          y: { label: page.overview.fitness, unit: "", log: false },
          points,
          front,
          kinds: KINDS.map(([kind, hue]) => [kind, `var(${hue})`]),
          words: (one) =>
            `candidate ${one.candidate}: ${share(one.y)}\n${short(one.x)} ${unit || label}`,
          pick: choose,
        }).node
      : null;
  };
  const charts = [
    chart("flops", "FLOPs, multiply-adds", "FLOP"),
    chart("params", "parameters", ""),
  ].filter(Boolean);
  return part(
    "sizes",
    "Accuracy and size",
    charts.length ? el("div", { class: "pair" }, charts) : soft("No candidate has a score yet."),
    charts.length
      ? soft(
          "The front: no network of at most this size has a higher fitness. A click shows a network.",
        )
      : null,
  );
}

function failuresPart(page, candidates, choose) {
  const total = page.failures.reduce((sum, one) => sum + one.count, 0);
  return part(
    "failures",
    "Failures",
    total
      ? soft(`${counted(total, "candidate")} without a score, by reason; a few examples of each.`)
      : soft("None."),
    page.failures.map((group) =>
      el(
        "details",
        {},
        el(
          "summary",
          {},
          `${group.count.toLocaleString("en")} × `,
          el("b", {}, group.status),
          ` ${group.reason}`,
        ),
        group.examples.map((one) =>
          el(
            "div",
            {},
            el(
              "p",
              {},
              el(
                "button",
                { type: "button", class: "link", click: () => choose(one.candidate) },
                `candidate ${one.candidate}`,
              ),
              `: ${one.failure}`,
            ),
            verbatim(candidates.completion(one.candidate).slice(0, 3000)),
          ),
        ),
      ),
    ),
  );
}

function signalsPart(page) {
  const rungs = page.rungs,
    known = page.signals.filter((one) => one.rho !== null);
  if (!rungs && !known.length) return null;
  const rho = (value) =>
    value === null ? UNKNOWN : (value >= 0 ? "+" : "−") + Math.abs(value).toFixed(2);
  return part(
    "signals",
    rungs ? "Rungs and signals" : "Signals",
    rungs
      ? table(
          [
            ["rung", true],
            ["epochs", true],
            ["candidates that came to it", true],
          ],
          rungs.epochs.map((epochs, at) => [
            String(at + 1),
            String(epochs),
            rungs.reached[at].toLocaleString("en"),
          ]),
        )
      : null,
    known.length
      ? [
          soft(
            "Spearman's rank correlation of what costs no training with the fitness, over all candidates and on average within niches.",
          ),
          table(
            [
              ["signal", false],
              ["candidates", true],
              ["correlation", true],
              ["niches", true],
              ["within niches", true],
            ],
            known.map((one) => [
              one.signal,
              String(one.count),
              rho(one.rho),
              String(one.niches),
              rho(one.rho_in_niche),
            ]),
          ),
        ]
      : null,
  );
}

function settingsPart(page) {
  const o = page.overview,
    list = (pairs) =>
      pairs.map(([name, count]) => `${name} (${counted(count, "candidate")})`).join(", ");
  return part(
    "settings",
    "Configuration and environment",
    facts([
      ["run", `${page.path} (${o.run_id})`],
      ["data, SHA-256", o.data_sha256 || "none on the record"],
      ["devices", list(o.devices) || "none on the record"],
      ["nodes", list(o.nodes)],
      ["llmatic-hpc that started it", o.software],
      ["commit", o.commit || "none on the record"],
    ]),
    el(
      "details",
      {},
      el("summary", {}, `Configuration: ${counted(o.configuration.length, "setting")}`),
      facts(o.configuration),
    ),
    el("details", {}, el("summary", {}, "Environment"), facts(o.environment)),
  );
}
