// Python in colours, and the difference of two texts by lines.

const TOKENS = new RegExp(
  [
    /(?<string>[rbfuRBFU]{0,2}(?:"""[\s\S]*?(?:"""|$)|'''[\s\S]*?(?:'''|$)|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?))/,
    /(?<comment>#[^\n]*)/,
    /(?<keyword>\b(?:and|as|assert|async|await|break|class|continue|def|del|elif|else|except|finally|for|from|global|if|import|in|is|lambda|nonlocal|not|or|pass|raise|return|try|while|with|yield|None|True|False|self)\b)/,
    /(?<number>\b\d[\w.]*)/,
    /(?<name>\b(?:nn|F|torch)(?:\.\w+)+)/,
  ]
    .map((one) => one.source)
    .join("|"),
  "g",
);

/** A source in a box, its tokens coloured. */
function code(source) {
  const box = el("pre", { tabindex: "0", "aria-label": "source text" });
  let end = 0;
  for (const found of source.matchAll(TOKENS)) {
    const [kind] = Object.entries(found.groups).find(([, text]) => text !== undefined);
    box.append(source.slice(end, found.index), el("span", { class: kind }, found[0]));
    end = found.index + found[0].length;
  }
  box.append(source.slice(end));
  return box;
}

/** Any other text that was written, as it is. */
function verbatim(text) {
  return el("pre", { tabindex: "0" }, text);
}

const MOST_LINES = 1500;

/** Lines as [kind, text]: same, removed, added; by a longest common subsequence. */
function compared(before, after) {
  const a = before.split("\n"),
    b = after.split("\n");
  if (a.length > MOST_LINES || b.length > MOST_LINES)
    return [...a.map((one) => ["removed", one]), ...b.map((one) => ["added", one])];
  const width = b.length + 1,
    lengths = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      lengths[i * width + j] =
        a[i] === b[j]
          ? lengths[(i + 1) * width + j + 1] + 1
          : Math.max(lengths[(i + 1) * width + j], lengths[i * width + j + 1]);
  const found = [];
  let i = 0,
    j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      found.push(["same", a[i]]);
      i++;
      j++;
    } else if (
      i < a.length &&
      (j === b.length || lengths[(i + 1) * width + j] >= lengths[i * width + j + 1])
    )
      found.push(["removed", a[i++]]);
    else found.push(["added", b[j++]]);
  }
  return found;
}

const CONTEXT = 3;

/** The difference between two texts in a box, with a few lines around each change. */
function difference(before, after) {
  if (before === after) return el("p", { class: "soft" }, "No line differs.");
  const lines = compared(before, after),
    box = el("pre", { tabindex: "0", "aria-label": "difference" });
  const near = lines.map((_, at) =>
    lines.slice(Math.max(0, at - CONTEXT), at + CONTEXT + 1).some(([kind]) => kind !== "same"),
  );
  lines.forEach(([kind, text], at) => {
    if (near[at])
      box.append(
        el("span", { class: kind }, `${{ same: " ", added: "+", removed: "−" }[kind]} ${text}\n`),
      );
    else if (near[at - 1] || at === 0) box.append(el("span", { class: "gap" }, "⋯\n"));
  });
  return box;
}
