// Numbers and times for people, in their own locale. Rows of tables are shown by grid/cells.ts, exactly.

const whole = new Intl.NumberFormat();
const short = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
const percent = new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 0 });
const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const ago = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });

export function count(value: number | string | null | undefined): string {
  if (value === null || value === undefined) return "—";
  return whole.format(typeof value === "string" ? BigInt(value) : value);
}

/** Say how many of a thing there are: `plural(1, "row")` is "1 row". */
export function plural(value: number, noun: string, many = `${noun}s`): string {
  return `${whole.format(value)} ${value === 1 ? noun : many}`;
}

export function rate(share: number): string {
  return percent.format(share);
}

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

export function bytes(value: number | string | null | undefined): string {
  if (value === null || value === undefined) return "—";
  let left = Number(value);
  let unit = 0;
  while (left >= 1024 && unit < UNITS.length - 1) {
    left /= 1024;
    unit += 1;
  }
  return `${short.format(left)} ${UNITS[unit]}`;
}

export function time(iso: string | null | undefined): string {
  if (!iso) return "—";
  const found = new Date(iso);
  return Number.isNaN(found.getTime()) ? iso : moment.format(found);
}

const STEPS: [Intl.RelativeTimeFormatUnit, number][] = [
  ["year", 31_556_952],
  ["month", 2_629_746],
  ["week", 604_800],
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
];

export function since(iso: string | null | undefined, now = Date.now()): string {
  if (!iso) return "—";
  const seconds = (new Date(iso).getTime() - now) / 1000;
  for (const [unit, length] of STEPS) {
    if (Math.abs(seconds) >= length) return ago.format(Math.round(seconds / length), unit);
  }
  return ago.format(Math.round(seconds), "second");
}

export function duration(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${short.format(ms / 1000)} s`;
}
