// Numbers and colours as a person reads them.

const UNKNOWN = "unknown";

/** Four digits at most, with a prefix of a thousand from 10,000 on: 13.3 k, 2.1 M, 5 G. */
function short(value) {
  if (value === null || value === undefined) return UNKNOWN;
  const size = Math.abs(value);
  for (const [unit, letter] of [
    [1e12, "T"],
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
  ])
    if (size >= unit && (size >= 1e4 || unit > 1e3))
      return `${+(value / unit).toPrecision(3)} ${letter}`;
  return String(+value.toPrecision(4));
}

/** An accuracy as a share of one. */
function share(value) {
  return value === null || value === undefined ? UNKNOWN : value.toFixed(4);
}

/** A difference of accuracies with its sign. */
function gain(value) {
  return `${value >= 0 ? "+" : "−"}${Math.abs(value).toFixed(4)}`;
}

function counted(number, thing) {
  return `${number.toLocaleString("en")} ${thing}${number === 1 ? "" : "s"}`;
}

/** Seconds in the unit that suits them. */
function duration(seconds) {
  if (seconds === null || seconds === undefined) return UNKNOWN;
  if (seconds < 120) return `${+seconds.toPrecision(3)} s`;
  return seconds < 7200 ? `${(seconds / 60).toFixed(1)} min` : `${(seconds / 3600).toFixed(2)} h`;
}

/** Hours, of which a small run has few. */
function hours(value) {
  return value === null ? UNKNOWN : duration(value * 3600);
}

/** Viridis: even steps to the eye, in print, and for most who see fewer colours. */
const VIRIDIS = [
  [68, 1, 84],
  [72, 40, 120],
  [62, 74, 137],
  [49, 104, 142],
  [38, 130, 142],
  [31, 158, 137],
  [53, 183, 121],
  [109, 205, 89],
  [180, 222, 44],
  [253, 231, 37],
];

/** The colour of a share from 0 to 1. */
function colour(part) {
  const at = Math.min(Math.max(part, 0), 1) * (VIRIDIS.length - 1);
  const low = Math.min(Math.floor(at), VIRIDIS.length - 2);
  const mixed = VIRIDIS[low].map((one, k) =>
    Math.round(one + (VIRIDIS[low + 1][k] - one) * (at - low)),
  );
  return `rgb(${mixed.join(",")})`;
}

/** Where a raw value lies on an axis {lower, upper, log}, from 0 to 1. */
function placed(axis, value) {
  if (!axis.log) return (value - axis.lower) / (axis.upper - axis.lower);
  return Math.log(value / axis.lower) / Math.log(axis.upper / axis.lower);
}

/** Round values for the ticks of an axis {lower, upper, log}. */
function ticks(axis, most = 6) {
  const found = [];
  const inside = (value) =>
    value >= axis.lower * (1 - 1e-9) - 1e-12 && value <= axis.upper * (1 + 1e-9) + 1e-12;
  if (axis.log && axis.upper / axis.lower > 30) {
    const low = Math.ceil(Math.log10(axis.lower) - 1e-9),
      high = Math.floor(Math.log10(axis.upper) + 1e-9);
    const step = Math.max(1, Math.ceil((high - low + 1) / most));
    for (let power = low; power <= high; power += step) found.push(10 ** power);
    return found;
  }
  const raw = (axis.upper - axis.lower) / most;
  const size = 10 ** Math.floor(Math.log10(raw));
  const step = size * [1, 2, 5, 10].find((factor) => factor * size >= raw);
  for (let value = Math.ceil(axis.lower / step) * step; inside(value); value += step)
    found.push(+value.toPrecision(12));
  return axis.log ? found.filter((value) => value > 0) : found;
}

/** What an axis is called, with its unit and scale. */
function title(axis) {
  const more = [axis.unit, axis.log ? "log" : ""].filter(Boolean).join(", ");
  return more ? `${axis.label} (${more})` : axis.label;
}
