// What a view shows, as code for other programs.
export interface Filter {
  column: string;
  op: string;
  value?: string;
}

export interface Scan {
  uri: string;
  columns: string[] | null;
  filters: Filter[];
  limit: number | null;
  snapshot: string | null;
  ref: string | null;
}

const NUMBERS = new Set(["int", "long", "float", "double"]);

/** Return a typed value of a filter as JSON, in the form of the API; the digits are those that were typed. */
function literal(text: string, type: string): string {
  if (type === "boolean" && /^(true|false)$/i.test(text)) return text.toLowerCase();
  if (NUMBERS.has(type)) {
    const whole = /^[+-]?\d+$/.test(text);
    return JSON.stringify(whole ? `__int__:${text}` : `__float__:${text}`);
  }
  if (type.startsWith("decimal")) return JSON.stringify(`__decimal__:${text}`);
  if (type === "date") return JSON.stringify(`__date__:${text}`);
  if (type === "time") return JSON.stringify(`__time__:${text}`);
  if (type.startsWith("timestamptz")) {
    const zoned = /(Z|[+-]\d{2}:?\d{2})$/i.test(text) ? text : `${text}Z`;
    return JSON.stringify(`__timestamptz__:${moment(zoned)}`);
  }
  if (type.startsWith("timestamp")) return JSON.stringify(`__timestamp__:${moment(text)}`);
  if (type === "uuid") return JSON.stringify(`__uuid__:${text}`);
  return JSON.stringify(/^__[a-z0-9_]+__:/.test(text) ? `__str__:${text}` : text);
}

function moment(text: string): string {
  const day = /^\d{4}-\d{2}-\d{2}(?=$|Z)/.exec(text);
  return day ? `${day[0]}T00:00:00${text.slice(day[0].length)}` : text;
}

export const NO_VALUE = new Set(["is null", "is not null"]);

function condition({ column, op, value = "" }: Filter, types: Record<string, string>): string {
  const start = `{"column": ${JSON.stringify(column)}, "op": ${JSON.stringify(op)}`;
  if (NO_VALUE.has(op)) return `${start}}`;
  const type = types[column] ?? "string";
  if (op === "in" || op === "not in") {
    const parts = value.split(",").map((part) => literal(part.trim(), type));
    return `${start}, "value": [${parts.join(", ")}]}`;
  }
  return `${start}, "value": ${literal(value, type)}}`;
}

/** Return the body of `POST /v1/materialize` of a scan. */
export function body(scan: Scan, types: Record<string, string>): string {
  const parts = [];
  if (scan.columns) parts.push(`"columns": ${JSON.stringify(scan.columns)}`);
  if (scan.filters.length) parts.push(`"filters": [${scan.filters.map((one) => condition(one, types)).join(", ")}]`);
  if (scan.limit !== null) parts.push(`"limit": ${scan.limit}`);
  if (scan.snapshot) parts.push(`"snapshot_id": ${JSON.stringify(scan.snapshot)}`);
  if (scan.ref) parts.push(`"ref": ${JSON.stringify(scan.ref)}`);
  return `{"inputs": [${JSON.stringify(scan.uri)}], "transform": {"executor": "scan@v1", "params": {${parts.join(", ")}}}}`;
}

/** Return a column's name as SQL takes it. */
export function name(column: string): string {
  return `"${column.replaceAll('"', '""')}"`;
}

function text(value: string): string {
  return `'${value.replaceAll("'", "''")}'`;
}

/** Return the same rows as one SELECT over `table`. */
export function sql(scan: Scan, table: string, order: { column: string; descending: boolean } | null = null): string {
  const columns = scan.columns ? scan.columns.map(name).join(", ") : "*";
  const where = scan.filters.map(({ column, op, value = "" }) => {
    if (NO_VALUE.has(op)) return `${name(column)} ${op.toUpperCase()}`;
    if (op === "in" || op === "not in") {
      return `${name(column)} ${op.toUpperCase()} (${value.split(",").map((part) => text(part.trim())).join(", ")})`;
    }
    return `${name(column)} ${op} ${text(value)}`;
  });
  return [
    `SELECT ${columns} FROM ${table}`,
    where.length ? ` WHERE ${where.join(" AND ")}` : "",
    order ? ` ORDER BY ${name(order.column)}${order.descending ? " DESC" : ""} NULLS LAST` : "",
    scan.limit === null ? "" : ` LIMIT ${scan.limit}`,
  ].join("");
}

/** Return the body of `POST /v1/materialize` of a sorted view, which the server's SQL engine makes. */
export function sorted(scan: Scan, order: { column: string; descending: boolean }): string {
  const select = sql(scan, "input0", order);
  return JSON.stringify({ inputs: [scan.uri], transform: { executor: "duckdb_sql@v1", params: { sql: select } } });
}

export function curl(request: string, address: string): string {
  const quoted = request.replaceAll("'", "'\\''");
  return [
    `curl -s '${address}' \\`,
    "  -H 'Content-Type: application/json' \\",
    "  -H 'Accept: application/vnd.apache.arrow.stream' \\",
    `  -d '${quoted}' -o rows.arrow`,
  ].join("\n");
}

function python(value: unknown): string {
  if (value === null) return "None";
  return JSON.stringify(value);
}

const CASTS: Record<string, (value: string) => string> = {
  date: (value) => `date.fromisoformat(${python(value)})`,
  time: (value) => `time.fromisoformat(${python(value)})`,
  decimal: (value) => `Decimal(${python(value)})`,
  timestamptz: (value) => `datetime.fromisoformat(${python(/(Z|[+-]\d{2}:?\d{2})$/i.test(value) ? value : `${value}+00:00`)})`,
  timestamp: (value) => `datetime.fromisoformat(${python(value)})`,
};

function argument(value: string, type: string): string {
  if (NUMBERS.has(type) && Number.isFinite(Number(value)) && value.trim()) return value.trim();
  if (type === "boolean") return /^true$/i.test(value) ? "True" : "False";
  const cast = CASTS[type.replace(/[^a-z].*$/, "")];
  return cast ? cast(value) : python(value);
}

/** Return a program that reads the same rows with Strata's client. */
export function client(scan: Scan, types: Record<string, string>, address: string): string {
  const filters = scan.filters.map(({ column, op, value = "" }) => {
    if (NO_VALUE.has(op)) return `(${python(column)}, ${python(op)}, None)`;
    const type = types[column] ?? "string";
    const found =
      op === "in" || op === "not in"
        ? `[${value.split(",").map((part) => argument(part.trim(), type)).join(", ")}]`
        : argument(value, type);
    return `(${python(column)}, ${python(op)}, ${found})`;
  });
  const lines = [`        ${python(scan.uri)},`];
  if (scan.columns) lines.push(`        columns=[${scan.columns.map(python).join(", ")}],`);
  if (filters.length) lines.push(`        filters=[${filters.join(", ")}],`);
  if (scan.limit !== null) lines.push(`        limit=${scan.limit},`);
  if (scan.snapshot) lines.push(`        snapshot_id=${scan.snapshot},`);
  if (scan.ref) lines.push(`        ref=${python(scan.ref)},`);
  const call = lines.join("\n");
  const used = ["date", "time", "datetime"].filter((kind) => new RegExp(`\\b${kind}\\.from`).test(call));
  return [
    ...(used.length ? [`from datetime import ${used.join(", ")}`] : []),
    ...(call.includes("Decimal(") ? ["from decimal import Decimal"] : []),
    ...(used.length || call.includes("Decimal(") ? [""] : []),
    "from strata.client import StrataClient",
    "",
    `with StrataClient(${python(address)}) as strata:`,
    "    table = strata.fetch(",
    call,
    "    )",
    "print(table.num_rows)",
  ].join("\n");
}
