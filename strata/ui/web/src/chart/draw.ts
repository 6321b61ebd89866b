// Drawing with Observable Plot, which is loaded with the first chart. What it makes is SVG whose texts are texts.
import { axisX, axisY, barY, dot, gridY, line, plot, rectY, ruleY } from "@observablehq/plot";
import type { Drawing, Mark } from "./data";
import type { Spec } from "./spec";
import { heightOf, titleOf } from "./spec";

const SYMBOLS = ["circle", "triangle", "square", "diamond", "cross", "star", "wye", "plus"] as const;

export interface Options {
  spec: Spec;
  of: Drawing;
  width: number;
  /** The colours of the series, in their order. */
  colours: string[];
}

export function draw({ spec, of, width, colours }: Options): Element {
  const texts = of.marks.some(({ x }) => typeof x === "string");
  const times = of.marks.some(({ x }) => x instanceof Date);
  const bands = spec.kind === "bars";
  const several = of.series.length > 1;
  const colour = several ? "by" : (colours[0] ?? "currentColor");
  const tip = { format: { fill: several, stroke: several, fx: false } };
  const channels = { x: "x", y: "y" } as const;
  const made = plot({
    width,
    height: Math.round(Math.min(400, Math.max(240, width * 0.4))),
    marginLeft: 64,
    marginBottom: texts ? 90 : 46,
    marginRight: 24,
    figure: false,
    ariaLabel: titleOf(spec),
    ariaDescription: described(of),
    x: { label: spec.x, type: bands || texts ? "band" : times ? "utc" : "linear", ...(texts || bands ? { domain: places(of.marks) } : {}) },
    y: { label: heightOf(spec), ...(spec.kind === "points" ? {} : { zero: spec.kind !== "line" }) },
    color: { type: "ordinal", domain: of.series, range: colours },
    symbol: { domain: of.series, range: [...SYMBOLS] },
    marks: [
      gridY({ stroke: "currentColor", strokeOpacity: 0.15 }),
      axisY({ label: heightOf(spec), labelArrow: "none", tickFormat: "~s", ...few(of.marks) }),
      axisX({
        label: spec.x,
        labelArrow: "none",
        ...(texts ? { tickRotate: -40, tickFormat: shortened, ...sparse(of.marks, width) } : bands ? { ...sparse(of.marks, width), tickFormat: times ? dayOf : undefined } : {}),
      } as Parameters<typeof axisX>[0]),
      ...(spec.kind === "bars" ? [barY(of.marks, { ...channels, fill: colour, tip }), ruleY([0])] : []),
      ...(spec.kind === "line" ? [line(of.marks, { ...channels, stroke: colour, strokeWidth: 2, ...(several ? { z: "by" } : {}), tip })] : []),
      ...(spec.kind === "line" && of.marks.length <= 60 ? [dot(of.marks, { ...channels, fill: colour, r: 2.5, ...(several ? { symbol: "by" } : {}) })] : []),
      ...(spec.kind === "points" ? [dot(of.marks, { ...channels, stroke: colour, r: 3, ...(several ? { symbol: "by" } : {}), tip })] : []),
      ...(spec.kind === "spread" ? [rectY(of.marks, { x1: "x", x2: "to", y: "y", fill: colour, inset: 0.5, tip }), ruleY([0])] : []),
    ],
  });
  // Its sheet would be inline; ours has the same.
  for (const sheet of [...made.querySelectorAll("style")]) sheet.remove();
  // A picture has no parts with names of their own.
  for (const part of made.querySelectorAll("[aria-label], [aria-description]")) {
    part.removeAttribute("aria-label");
    part.removeAttribute("aria-description");
  }
  made.setAttribute("role", "img");
  return made;
}

/** Ticks at whole numbers where only few of them are reached. */
function few(marks: Mark[]): { ticks: number | number[] } {
  const most = marks.reduce((one, { y }) => Math.max(one, y), 0);
  const whole = marks.every(({ y }) => Number.isInteger(y) && y >= 0);
  return { ticks: whole && most < 6 ? Array.from({ length: most + 1 }, (_, at) => at) : 6 };
}

function shortened(value: unknown): string {
  const text = String(value);
  return text.length > 14 ? `${text.slice(0, 13)}…` : text;
}

function dayOf(value: unknown): string {
  const text = value instanceof Date ? value.toISOString() : String(value);
  return text.endsWith("T00:00:00.000Z") ? text.slice(0, 10) : text.slice(0, 16).replace("T", " ");
}

function places(marks: Mark[]): Mark["x"][] {
  const found = new Map(marks.map(({ x }) => [x instanceof Date ? x.getTime() : x, x]));
  return [...found.values()];
}

/** As many ticks as have room. */
function sparse(marks: Mark[], width: number): { ticks?: Mark["x"][] } {
  const all = places(marks);
  const dates = all[0] instanceof Date;
  const step = Math.ceil(all.length / Math.max(1, (width - 88) / (dates ? 84 : typeof all[0] === "number" ? 44 : 18)));
  return step > 1 ? { ticks: all.filter((_, at) => at % step === 0) } : {};
}

function described({ marks, series }: Drawing): string {
  if (!marks.length) return "Nothing is in it.";
  const heights = marks.map(({ y }) => y);
  const least = heights.reduce((one, other) => Math.min(one, other));
  const most = heights.reduce((one, other) => Math.max(one, other));
  const lines = series.length > 1 ? ` in ${series.length} colours` : "";
  return `${marks.length.toLocaleString()} values${lines}, from ${least.toLocaleString()} to ${most.toLocaleString()}. The numbers are in the table below.`;
}
