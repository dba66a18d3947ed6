// Numbers as text, each with its unit, from which no end of a line parts it. What is not known is a dash.

const DASH = "–";
const GAP = "\u00a0";
const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

export function isKnown(value) {
  return value !== null && value !== undefined && Number.isFinite(value);
}

export function count(value) {
  return isKnown(value) ? whole.format(value) : DASH;
}

// Four significant digits; very large and very small ones with an exponent.
export function number(value, digits = 4) {
  if (!isKnown(value)) return DASH;
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-4) {
    return value.toExponential(digits - 1).replace(/\.?0+e/, "e").replace("e+", "e");
  }
  return String(Number(value.toPrecision(digits)));
}

// As `number`, but always with four digits, so that columns line up.
export function fixed(value) {
  if (!isKnown(value)) return DASH;
  const size = Math.abs(value);
  return size && (size >= 1e4 || size < 1e-3) ? number(value) : value.toFixed(4);
}

export function percent(value, digits = 1) {
  return isKnown(value) ? `${(value * 100).toFixed(digits)}${GAP}%` : DASH;
}

export function bytes(value) {
  if (!isKnown(value)) return DASH;
  for (const unit of ["bytes", "kB", "MB"]) {
    if (Math.abs(value) < 1000) return `${Number(value.toPrecision(3))}${GAP}${unit}`;
    value /= 1000;
  }
  return `${Number(value.toPrecision(3))}${GAP}GB`;
}

export function duration(seconds) {
  if (!isKnown(seconds)) return DASH;
  if (seconds < 1) return `${Math.round(seconds * 1000)}${GAP}ms`;
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)}${GAP}s`;
  const all = Math.round(seconds);
  const [h, m, s] = [Math.floor(all / 3600), Math.floor((all % 3600) / 60), all % 60];
  if (h >= 48) return `${Math.round(h / 24)}${GAP}days`;
  return h ? `${h}${GAP}h ${m}${GAP}min` : `${m}${GAP}min ${s}${GAP}s`;
}

// A time in seconds since 1970, as "3 min ago", or its date.
export function ago(time) {
  if (!isKnown(time)) return DASH;
  const passed = Date.now() / 1000 - time;
  if (passed < 5) return "now";
  if (passed < 24 * 3600) return `${duration(passed).replace(/ \d+\s(s|min)$/, "")} ago`;
  return new Date(time * 1000).toLocaleDateString(undefined, {
    year: "numeric", month: "short", day: "numeric",
  });
}

export function plural(value, one, many = `${one}s`) {
  return `${count(value)} ${value === 1 ? one : many}`;
}
