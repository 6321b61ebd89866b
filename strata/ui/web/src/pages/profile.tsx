// What a column holds: how many rows have it, how many values differ, the smallest, the largest, the most frequent,
// and how they are spread. The server's SQL engine counts all rows that the caller may read; nothing is estimated.
import { url } from "../api";
import { name } from "../code";
import { count, duration, rate } from "../format";
import { read } from "../grid/arrow";
import { cell } from "../grid/cells";
import { Empty, Facts, Show, useLoaded } from "../parts";

export const SQL = "duckdb_sql@v1";

const BARS = 24;
const TOP = 8;
const LONGEST = 80;

type Row = Record<string, string | null>;

interface Found {
  facts: Row;
  top: Row[];
  bars: Row[];
  milliseconds: number;
}

const NUMBERS = /^(int|long|float|double|decimal)/;
const TIMES = /^(date|timestamp)/;
const PLAIN = /^(boolean|int|long|float|double|decimal|date|time|timestamp|string|uuid)/;

/** Return the values of a column as numbers, where it has an order that can be divided; null for other types. */
function numbers(column: string, type: string): string | null {
  if (NUMBERS.test(type)) return `CAST(${name(column)} AS DOUBLE)`;
  return TIMES.test(type) ? `CAST(epoch(${name(column)}) AS DOUBLE)` : null;
}

async function rows(uri: string, sql: string, signal: AbortSignal): Promise<{ rows: Row[]; milliseconds: number }> {
  const body = JSON.stringify({ inputs: [uri], transform: { executor: SQL, params: { sql } } });
  const options = { method: "POST", body, headers: { "Content-Type": "application/json" }, signal };
  const { table, milliseconds } = await read(url("/v1/materialize"), options);
  const found: Row[] = [];
  for (let at = 0; at < table.numRows; at++) {
    const row: Row = {};
    for (const [place, field] of table.schema.fields.entries()) {
      const vector = table.getChildAt(place);
      const value = vector ? cell(vector, at) : null;
      row[field.name] = !value || value.kind === "null" ? null : value.text;
    }
    found.push(row);
  }
  return { rows: found, milliseconds };
}

async function profile(uri: string, column: string, type: string, signal: AbortSignal): Promise<Found> {
  const quoted = name(column);
  const plain = PLAIN.test(type);
  const facts = plain
    ? `SELECT count(*) AS "rows", count(${quoted}) AS "present", count(DISTINCT ${quoted}) AS "distinct", CAST(min(${quoted}) AS VARCHAR) AS "least", CAST(max(${quoted}) AS VARCHAR) AS "most" FROM input0`
    : `SELECT count(*) AS "rows", count(${quoted}) AS "present" FROM input0`;
  const top = `SELECT CAST(${quoted} AS VARCHAR) AS "value", count(*) AS "times" FROM input0 WHERE ${quoted} IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT ${TOP}`;
  const divided = numbers(column, type);
  const bars =
    divided &&
    `WITH x AS (SELECT ${divided} AS v FROM input0 WHERE isfinite(${divided})), r AS (SELECT min(v) AS lo, max(v) AS hi FROM x) SELECT CAST(least(${BARS - 1}, coalesce(floor((v - lo) / nullif(hi - lo, 0) * ${BARS}), 0)) AS INTEGER) AS "bar", count(*) AS "times" FROM x, r GROUP BY 1 ORDER BY 1`;
  const [one, two, three] = await Promise.all([
    rows(uri, facts, signal),
    plain ? rows(uri, top, signal) : null,
    bars ? rows(uri, bars, signal) : null,
  ]);
  return {
    facts: one.rows[0] ?? {},
    top: two?.rows ?? [],
    bars: three?.rows ?? [],
    milliseconds: Math.max(one.milliseconds, two?.milliseconds ?? 0, three?.milliseconds ?? 0),
  };
}

export function Profile({ uri, column, type }: { uri: string; column: string; type: string }) {
  const found = useLoaded(`${uri}\n${column}`, (signal) => profile(uri, column, type, signal));
  return (
    <section class="card profile" aria-label={`Profile of ${column}`}>
      <h2>
        Profile of <code>{column}</code> <span class="count">{found.value && `all rows, in ${duration(found.value.milliseconds)}`}</span>
      </h2>
      <Show of={found}>{(value) => <Body of={value} type={type} />}</Show>
    </section>
  );
}

function cut(text: string | null | undefined): string {
  if (text === null || text === undefined) return "—";
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
}

function Body({ of, type }: { of: Found; type: string }) {
  const total = Number(of.facts["rows"] ?? 0);
  const present = Number(of.facts["present"] ?? 0);
  if (total === 0) return <Empty title="There is no row to look at" />;
  const missing = total - present;
  const facts: [string, string][] = [
    ["Rows", count(total)],
    ["Null", `${count(missing)} (${rate(missing / total)})`],
  ];
  if (of.facts["distinct"] !== undefined) {
    facts.push(["Different values", count(of.facts["distinct"])], ["Smallest", cut(of.facts["least"])], ["Largest", cut(of.facts["most"])]);
  }
  const most = Math.max(1, ...of.top.map((row) => Number(row["times"])));
  return (
    <>
      <Facts of={facts} />
      {of.bars.length > 1 && <Spread bars={of.bars} least={cut(of.facts["least"])} most={cut(of.facts["most"])} />}
      {most > 1 && (
        <table class="frequent">
          <caption>The most frequent values</caption>
          <thead>
            <tr>
              <th scope="col">Value</th>
              <th scope="col" class="number">
                Rows
              </th>
              <th scope="col">
                <span class="unseen">Share</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {of.top.map((row, at) => (
              <tr key={at}>
                <th scope="row" class={NUMBERS.test(type) ? "number" : "clip"}>
                  <code>{cut(row["value"])}</code>
                </th>
                <td class="number">{count(row["times"])}</td>
                <td class="share">
                  <span class="bar-of" style={{ width: `${(Number(row["times"]) / most) * 100}%` }} /> {rate(Number(row["times"]) / total)}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </>
  );
}

function Spread({ bars, least, most }: { bars: Row[]; least: string; most: string }) {
  const heights = Array.from({ length: BARS }, () => 0);
  for (const row of bars) {
    const at = Number(row["bar"]);
    if (at >= 0 && at < BARS) heights[at] = Number(row["times"]);
  }
  const highest = Math.max(1, ...heights);
  return (
    <figure class="spread">
      <div class="spread-bars" role="img" aria-label={`Rows in ${BARS} equal parts from ${least} to ${most}: ${heights.join(", ")}`}>
        {heights.map((rows, at) => (
          <span key={at} title={`${count(rows)} rows`} style={{ height: `${(rows / highest) * 100}%` }} />
        ))}
      </div>
      <figcaption>
        <span>{least}</span> <span>{most}</span>
      </figcaption>
    </figure>
  );
}
