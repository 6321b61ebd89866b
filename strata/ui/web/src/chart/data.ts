// From the rows of a table to the few numbers that a chart draws. Numbers of a chart are floating-point ones: heights
// have about 15 digits. The rows themselves stay exact in the grid.
import type { Table, Vector } from "apache-arrow";
import { Type } from "apache-arrow";
import { cell, kindOf } from "../grid/cells";
import { plural } from "../format";
import type { Each, Field, Spec } from "./spec";

/** Most bars, and most points of lines and of points, that are drawn. */
export const BARS = 60;
export const POINTS = 4_000;
export const SERIES = 8;
const PARTS = 30;
/** Rows between two pauses, in which the page answers to a person. */
const STEP = 20_000;

export type Place = number | string | Date;

export interface Mark {
  x: Place;
  /** The end of the place, for a part of a spread. */
  to?: Place;
  y: number;
  by: string;
}

export interface Drawing {
  marks: Mark[];
  series: string[];
  /** What of the rows is not in the chart. */
  told: string[];
  rows: number;
}

export function fieldsOf(table: Table): Field[] {
  return table.schema.fields.flatMap(({ name, type }): Field[] => {
    const kind = kindOf(type);
    if (kind === "number") return [{ name, kind }];
    if (kind === "time") return [{ name, kind: type.typeId === Type.Time ? "text" : "time" }];
    if (kind === "text" || kind === "bool") return [{ name, kind: "text" }];
    return [];
  });
}

type Reader = (row: number) => Place | null;

function reader(table: Table, field: Field | undefined, each: Each): Reader {
  const vector = field && (table.getChild(field.name) as Vector | null);
  if (!field || !vector) return () => null;
  return (row) => {
    const { text, kind } = cell(vector, row);
    if (kind === "null") return null;
    if (field.kind === "number") return Number(text);
    if (field.kind === "text") return text;
    const at = new Date(`${text.replace(" ", "T")}${text.includes(" ") && !text.endsWith("Z") ? "Z" : ""}`);
    return Number.isNaN(at.getTime()) ? null : cut(at, each);
  };
}

function cut(at: Date, each: Each): Date {
  if (each === "value") return at;
  const found = new Date(at);
  if (each === "hour") found.setUTCMinutes(0, 0, 0);
  else found.setUTCHours(0, 0, 0, 0);
  if (each === "week") found.setUTCDate(found.getUTCDate() - ((found.getUTCDay() + 6) % 7));
  if (each === "month" || each === "year") found.setUTCDate(1);
  if (each === "year") found.setUTCMonth(0);
  return found;
}

const key = (place: Place) => (place instanceof Date ? place.getTime() : place);

async function rest(row: number, stop: AbortSignal): Promise<void> {
  if (row % STEP !== STEP - 1) return;
  await new Promise((done) => setTimeout(done));
  stop.throwIfAborted();
}

/** Return what a chart draws of a table. */
export async function drawing(table: Table, spec: Spec, stop: AbortSignal): Promise<Drawing> {
  const fields = fieldsOf(table);
  const of = (name: string | null) => fields.find((one) => one.name === name);
  const xs = reader(table, of(spec.x), spec.each);
  const ys = reader(table, of(spec.y), "value");
  const groups = spec.by === null ? () => "" : reader(table, of(spec.by), "value");
  const told: string[] = [];
  let empty = 0;
  const rows = table.numRows;
  const points: { x: Place; y: number; by: string }[] = [];
  for (let row = 0; row < rows; row++) {
    await rest(row, stop);
    const x = xs(row);
    const y = spec.y === null ? 1 : ys(row);
    if (x === null || y === null || !Number.isFinite(Number(y)) || (typeof x === "number" && !Number.isFinite(x))) empty += 1;
    else points.push({ x, y: Number(y), by: named(groups(row)) });
  }
  if (empty) told.push(`${plural(empty, "row")} without a finite value ${empty === 1 ? "is" : "are"} not in it.`);
  if (spec.kind === "spread") return { marks: spread(points.map(({ x }) => Number(key(x))), of(spec.x)?.kind === "time"), series: [""], told, rows };
  const { kept, series } = ofSeries(points, told);
  const marks = spec.kind === "points" ? sampled(kept, told) : await gathered(kept, spec, told, stop);
  return { marks, series, told, rows };
}

function named(value: Place | null): string {
  if (value === null) return "null";
  return value instanceof Date ? value.toISOString() : String(value);
}

function ofSeries(points: Mark[], told: string[]): { kept: Mark[]; series: string[] } {
  const sizes = new Map<string, number>();
  for (const { by } of points) sizes.set(by, (sizes.get(by) ?? 0) + 1);
  const order = [...sizes].sort(([, one], [, other]) => other - one).map(([name]) => name);
  const series = order.slice(0, SERIES).sort((one, other) => one.localeCompare(other, undefined, { numeric: true }));
  if (order.length <= SERIES) return { kept: points, series };
  told.push(`The ${SERIES} of ${order.length.toLocaleString()} colours with the most rows are in it.`);
  const wanted = new Set(series);
  return { kept: points.filter(({ by }) => wanted.has(by)), series };
}

function sampled(points: Mark[], told: string[]): Mark[] {
  if (points.length <= POINTS) return points;
  const step = Math.ceil(points.length / POINTS);
  told.push(`One of ${step.toLocaleString()} rows is drawn.`);
  return points.filter((_, at) => at % step === 0);
}

async function gathered(points: Mark[], spec: Spec, told: string[], stop: AbortSignal): Promise<Mark[]> {
  const places = new Map<string, { x: Place; by: string; values: number[] }>();
  for (const [at, { x, y, by }] of points.entries()) {
    await rest(at, stop);
    const name = `${key(x)}\u0000${by}`;
    const place = places.get(name);
    if (place) place.values.push(y);
    else places.set(name, { x, by, values: [y] });
  }
  let marks: Mark[] = [...places.values()].map(({ x, by, values }) => ({ x, by, y: height(values, spec) }));
  const all = new Map<number | string, number>();
  for (const { x, y } of marks) all.set(key(x), (all.get(key(x)) ?? 0) + Math.abs(y));
  const most = spec.kind === "bars" ? BARS : POINTS;
  if (all.size > most) {
    const line = spec.kind === "line";
    const order = [...all].sort(([, one], [, other]) => other - one);
    // A line with holes would lie; bars are those of the largest values.
    const ordered = line ? [...all].sort(([one], [other]) => (one < other ? -1 : 1)) : order;
    const wanted = new Set(ordered.slice(0, most).map(([one]) => one));
    told.push(`The ${line ? "first" : "highest"} ${most.toLocaleString()} of ${all.size.toLocaleString()} different values of ${spec.x} are in it.`);
    marks = marks.filter(({ x }) => wanted.has(key(x)));
  }
  const texts = marks.some(({ x }) => typeof x === "string");
  marks.sort((one, other) => {
    if (texts) return (all.get(key(other.x)) ?? 0) - (all.get(key(one.x)) ?? 0) || String(one.x).localeCompare(String(other.x));
    return Number(key(one.x)) - Number(key(other.x)) || one.by.localeCompare(other.by);
  });
  return marks;
}

function height(values: number[], { how, y }: Spec): number {
  if (y === null || how === "count") return values.length;
  const sum = () => values.reduce((total, one) => total + one, 0);
  if (how === "sum") return sum();
  if (how === "mean") return sum() / values.length;
  if (how === "min") return values.reduce((least, one) => Math.min(least, one));
  if (how === "max") return values.reduce((most, one) => Math.max(most, one));
  const sorted = Float64Array.from(values).sort();
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? 0;
  return sorted.length % 2 ? upper : ((sorted[middle - 1] ?? 0) + upper) / 2;
}

function spread(values: number[], times: boolean): Mark[] {
  if (!values.length) return [];
  const least = values.reduce((one, other) => Math.min(one, other));
  const most = values.reduce((one, other) => Math.max(one, other));
  const whole = values.every(Number.isInteger);
  let width = (most - least) / PARTS || 1;
  if (whole) width = Math.max(1, Math.ceil((most - least + 1) / PARTS));
  const parts = Math.min(PARTS, Math.max(1, Math.ceil((most - least) / width + (whole ? 1e-9 : 0))));
  const counts = new Array<number>(parts).fill(0);
  for (const one of values) {
    const at = Math.min(parts - 1, Math.floor((one - least) / width));
    counts[at] = (counts[at] ?? 0) + 1;
  }
  const place = (at: number): Place => (times ? new Date(at) : at);
  return counts.map((y, at) => ({ x: place(least + at * width), to: place(least + (at + 1) * width), y, by: "" }));
}
