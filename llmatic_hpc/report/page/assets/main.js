// Unpack the data and put the page together.

async function unpacked() {
  const bytes = Uint8Array.from(atob(document.getElementById("data").textContent), (one) =>
    one.charCodeAt(0),
  );
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

/** Both maps with one slider over the generations. */
function mapPart(page, maps) {
  const last = Math.max(0, page.overview.generation - 1),
    said = el("output", { for: "generation" });
  const slider = el("input", {
    type: "range",
    id: "generation",
    min: 0,
    max: last,
    step: 1,
    value: last,
    input: () => {
      maps.forEach((one) => one.show(+slider.value));
      tell();
    },
  });
  const tell = () => {
    said.textContent = `after generation ${slider.value}, the last is ${last}`;
  };
  tell();
  return part(
    "map",
    "The map",
    page.overview.generation
      ? el(
          "div",
          { class: "tools" },
          el("label", { for: "generation" }, "generation"),
          slider,
          said,
        )
      : soft("No generation has its results yet: all cells are empty."),
    el(
      "div",
      { class: "pair" },
      maps.map((one) => one.node),
    ),
    soft("A click on a cell, or Enter after the arrow keys, shows its network below."),
  );
}

async function start() {
  const page = await unpacked(),
    candidates = new Candidates(page),
    host = el("div");
  let maps = [];
  /** Show a candidate; `goes`: and go there. */
  function choose(row, goes = true) {
    host.replaceChildren(networkPanel(candidates, row, choose));
    maps.forEach((one) => one.mark(row));
    if (!goes) return;
    history.replaceState(null, "", `#candidate-${row}`);
    host.firstChild.scrollIntoView({ block: "start" });
    host.querySelector("h3").focus({ preventScroll: true });
  }
  maps = ["network", "prompt"].map((name) => new ArchiveMap(page, name, choose));
  document.getElementById("top").append(...header(page).filter(Boolean));
  const parts = [
    mapPart(page, maps),
    progressPart(page),
    sizesPart(page, choose),
    paidPart(page),
    failuresPart(page, candidates, choose),
    signalsPart(page),
    timelinePart(page),
    settingsPart(page),
  ].filter(Boolean);
  parts[0].append(host);
  document.getElementById("main").replaceChildren(...parts);
  document.querySelector("nav").append(
    el(
      "div",
      {},
      parts.map((one) => el("a", { href: `#${one.id}` }, one.querySelector("h2").textContent)),
    ),
  );
  document
    .querySelector("footer")
    .append(
      `llmatic-hpc ${page.version}, ${page.made}. Made of run.h5 alone. The page holds the numbers of all ` +
        `${counted(page.overview.candidates, "candidate")} and the texts of ${page.reached.toLocaleString("en")}: whoever was an elite of either archive, ` +
        `their ancestors, examples of failures; texts of more than ${page.longest_text.toLocaleString("en")} characters are cut, and losses after ${(page.longest_text / 20).toLocaleString("en")} epochs.`,
    );
  const asked = /^#candidate-(\d+)$/.exec(location.hash);
  if (asked && +asked[1] < page.overview.candidates) choose(+asked[1]);
  else if (page.overview.best !== null) choose(page.overview.best, false);
  document.documentElement.dataset.ready = "true";
}

start().catch((error) => {
  document
    .getElementById("main")
    .replaceChildren(
      el(
        "p",
        { class: "bad" },
        `This page cannot be drawn here: ${error}. ` + "It needs a browser of 2023 or later.",
      ),
    );
  throw error;
});
