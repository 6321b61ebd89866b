// What a chart shows of a table: kept in the address, or with the cell of a notebook.
export const KINDS = ["bars", "line", "points", "spread"] as const;
export const HOWS = ["count", "sum", "mean", "median", "min", "max"] as const;
export const EACH = ["value", "hour", "day", "week", "month", "year"] as const;

export type Kind = (typeof KINDS)[number];
export type How = (typeof HOWS)[number];
export type Each = (typeof EACH)[number];

export interface Spec {
  kind: Kind;
  x: string;
  /** The column of the height; null: rows are counted. */
  y: string | null;
  /** How rows of one place become one height. */
  how: How;
  /** The length of one place on an axis of times. */
  each: Each;
  /** The column whose values have colours of their own. */
  by: string | null;
}

/** A column as far as charts tell columns apart. */
export interface Field {
  name: string;
  kind: "number" | "time" | "text";
}

/** Return what a text or a JSON value says of a chart; null where it says nothing, or of no column that there is. */
export function specOf(given: unknown, fields: readonly Field[]): Spec | null {
  let found = given;
  if (typeof given === "string") {
    try {
      found = JSON.parse(given);
    } catch {
      return null;
    }
  }
  if (typeof found !== "object" || found === null) return null;
  const of = found as Record<string, unknown>;
  const column = (value: unknown) => (typeof value === "string" && fields.some(({ name }) => name === value) ? value : null);
  const x = column(of["x"]);
  if (x === null) return null;
  const one = <T extends string>(all: readonly T[], value: unknown): T => (all.includes(value as T) ? (value as T) : (all[0] as T));
  return sound(
    { kind: one(KINDS, of["kind"]), x, y: column(of["y"]), how: one(HOWS, of["how"]), each: one(EACH, of["each"]), by: column(of["by"]) },
    fields,
  );
}

/** Return a chart that fits to the columns: what does not is replaced by what does. */
export function sound(spec: Spec, fields: readonly Field[]): Spec {
  const kindOf = (name: string | null) => fields.find((one) => one.name === name)?.kind;
  const numbers = fields.filter(({ kind }) => kind === "number");
  let { kind, x, y, how, each, by } = spec;
  if (kindOf(y) !== "number") y = null;
  if (kindOf(x) !== "time") each = "value";
  if (kind === "spread" && kindOf(x) === "text") kind = "bars";
  if (kind === "points") {
    y ??= numbers.find(({ name }) => name !== x)?.name ?? numbers[0]?.name ?? null;
    if (y === null) kind = "bars";
  }
  if (kind === "spread") [y, by] = [null, null];
  if (kind === "bars" || kind === "line") {
    if (y === null) how = "count";
    else if (how === "count") how = "sum";
  }
  if (by === x && kind !== "points") by = null;
  return { kind, x, y, how, each, by };
}

/** Return the chart to begin with: of the first column that tells rows apart. */
export function first(fields: readonly Field[]): Spec | null {
  const time = fields.find(({ kind }) => kind === "time");
  const text = fields.find(({ kind }) => kind === "text");
  const x = time ?? text ?? fields[0];
  if (!x) return null;
  const kind = x.kind === "time" ? "line" : x.kind === "number" ? "spread" : "bars";
  return sound({ kind, x: x.name, y: null, how: "count", each: x.kind === "time" ? "day" : "value", by: null }, fields);
}

const WORDS: Record<How, string> = { count: "rows", sum: "sum", mean: "mean", median: "median", min: "smallest", max: "largest" };

export function heightOf(spec: Spec): string {
  if (spec.kind === "points") return spec.y ?? "";
  return spec.y === null ? "rows" : `${WORDS[spec.how]} of ${spec.y}`;
}

export function titleOf(spec: Spec): string {
  const by = spec.by === null ? "" : `, by ${spec.by}`;
  if (spec.kind === "spread") return `How ${spec.x} spreads`;
  if (spec.kind === "points") return `${spec.y} against ${spec.x}${by}`;
  const height = heightOf(spec);
  const each = spec.each === "value" ? spec.x : `${spec.each} of ${spec.x}`;
  return `${height.charAt(0).toUpperCase()}${height.slice(1)} for each ${each}${by}`;
}
