// What is known of a candidate: numbers, source, training, and where it comes from.

/** Texts and numbers of the candidates, by number; -1 is the initial network. */
class Candidates {
  constructor(page) {
    this.page = page;
    this.table = page.candidates;
    this.texts = page.texts;
  }

  value(name, row) {
    return this.table[name]?.[row] ?? null;
  }

  parents(row) {
    return row < 0 ? [] : this.table.parents[row];
  }

  text(kind, row) {
    return this.texts[kind]?.[row] ?? "";
  }

  source(row) {
    return row < 0 ? this.page.initial : this.text("source", row);
  }

  /** What was written for it: where it was taken as it is, the source itself. */
  completion(row) {
    return this.text("completion", row) || this.text("source", row);
  }

  isReached(row) {
    return row in (this.texts.source ?? {}) || row in (this.texts.completion ?? {});
  }

  name(row) {
    return row < 0 ? "initial network" : `candidate ${row}`;
  }

  instruction(row) {
    const prompt = this.value("prompt", row);
    return prompt !== null && prompt >= 0 ? `${prompt}: ${this.page.prompts[prompt]}` : "";
  }

  /** How a candidate was made, in words. */
  made(row) {
    const heat = this.value("temperature", row);
    const from = this.parents(row);
    return (
      `${this.value("operator", row)} of ${from.length ? from.map((one) => this.name(one)).join(" and ") : "the initial network"}` +
      (heat === null ? "" : `, temperature ${heat.toFixed(2)}`)
    );
  }

  /** Numbers of all ancestors and the candidate, the latest first. */
  lineage(row) {
    const found = new Set(),
      open = [row];
    while (open.length) {
      const one = open.pop();
      if (one < 0 || found.has(one)) continue;
      found.add(one);
      open.push(...this.parents(one));
    }
    return [...found].sort((a, b) => b - a);
  }
}

/** Say what several trainings of a network came to. */
function again(trainings) {
  if (!trainings) return null;
  const [count, mean, deviation] = trainings;
  return `${counted(count, "training")}: mean ${share(mean)}, standard deviation ${share(deviation)}`;
}

/** The panel of a candidate; `choose` goes on to another. */
function networkPanel(candidates, row, choose) {
  const get = (name) => candidates.value(name, row),
    page = candidates.page;
  const original = get("duplicate_of");
  const axes = page.maps.network.axes.map((axis, at) => [
    title({ ...axis, log: false }),
    short(candidates.table.descriptors[row][at]),
  ]);
  const known = new Set(page.maps.network.axes.map((axis) => axis.name));
  const link = (one) =>
    el("button", { type: "button", class: "link", click: () => choose(one) }, candidates.name(one));
  const pairs = [
    ["status", get("status")],
    ["why", candidates.table.failure[row]],
    ["same network as", original >= 0 ? link(original) : null],
    ["fitness", share(get("fitness"))],
    ["trained again", again(page.trainings[row])],
    ["validation accuracy", share(get("valid_accuracy"))],
    ["test accuracy", share(get("test_accuracy"))],
    ["rank", get("rank") || null],
    ...axes,
    [
      "FLOPs (multiply-adds)",
      known.has("flops") || get("flops") === null ? null : short(get("flops")),
    ],
    ["parameters", get("params") >= 0 ? short(get("params")) : null],
    ["width, depth", get("width") >= 0 ? `${get("width")}, ${get("depth")}` : null],
    ["generation", get("generation")],
    ["made by", candidates.made(row)],
    ["prompt", candidates.instruction(row)],
    [
      "cell",
      get("network_cell") >= 0
        ? `${get("network_cell")}: ${["not better than its elite", "replaced its elite", "was empty"][get("network_added")]}`
        : null,
    ],
    [
      "trained",
      get("epochs")
        ? `${counted(get("epochs"), "epoch")}, ${duration(get("train_seconds"))}, seed ${get("seed")}`
        : null,
    ],
    [
      "training loss, last epoch",
      get("train_loss") === null ? null : `${short(get("train_loss"))} nat`,
    ],
    ["device", get("device")],
    ["attempts", get("attempts") > 1 ? get("attempts") : null],
    ["written", get("tokens") ? counted(get("tokens"), "token") : null],
    ["cell of the benchmark", candidates.text("architecture", row)],
  ];
  const losses = candidates.texts.train_curve?.[row] ?? candidates.texts.train_curve?.[original];
  const curve = losses?.length
    ? new Chart({
        caption: "Training loss",
        x: { label: "epoch", unit: "", log: false },
        y: { label: "mean loss", unit: "nat", log: false },
        curves: [
          {
            name: "training loss of each epoch",
            colour: "var(--s0)",
            dots: true,
            x: losses.map((_, at) => at + 1),
            y: losses,
          },
        ],
      }).node
    : el(
        "p",
        { class: "soft" },
        get("epochs")
          ? "An earlier version made this record, without the loss of each epoch."
          : "It was not trained.",
      );
  const source = candidates.source(row);
  return el(
    "section",
    { class: "panel", id: "network", "aria-live": "polite", "data-candidate": row },
    el("h3", { tabindex: "-1" }, `Candidate ${row}`),
    el(
      "div",
      { class: "columns" },
      el("div", {}, facts(pairs), curve),
      el(
        "div",
        {},
        el("h3", {}, "Source"),
        source
          ? code(source)
          : el(
              "p",
              { class: "soft" },
              candidates.isReached(row)
                ? "No network could be read from what was written."
                : `The page holds the sources of ${counted(page.reached, "candidate")}: whoever was an elite, their ancestors, examples of failures. ` +
                    `llmatic export RUN --candidate ${row} --output FILE.py writes this one.`,
            ),
      ),
    ),
    lineage(candidates, row, choose),
  );
}
