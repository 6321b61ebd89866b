// Rows of a table: what is asked for is in the address, the server filters and sorts, the grid shows.
import { useEffect, useId, useState } from "preact/hooks";
import { get, url } from "../api";
import { body, client, curl, NO_VALUE, sorted, sql } from "../code";
import type { Filter, Scan } from "../code";
import { ChartButton, ChartOfAddress } from "../chart/lazy";
import { duration, plural } from "../format";
import { read } from "../grid/arrow";
import { Grid } from "../grid/grid";
import type { Sort } from "../grid/grid";
import { Choice, Code, Empty, Show, useLoaded } from "../parts";
import { change, href, parameters, ROOT } from "../router";
import type { TransformListAnswer } from "../types";

const LIMITS = ["100", "1000", "10000", "100000"];
const OPS = ["=", "!=", "<", "<=", ">", ">=", "in", "not in", "is null", "is not null"];
const SQL = "duckdb_sql@v1";

interface Props {
  uri: string;
  types: Record<string, string>;
  version: { ref: string | null; snapshot: string | null };
}

function filtersOf(raw: string | null): Filter[] {
  try {
    const found: unknown = JSON.parse(raw ?? "[]");
    return Array.isArray(found) ? found.filter((one) => typeof one?.column === "string" && OPS.includes(one?.op)) : [];
  } catch {
    return [];
  }
}

function listOf(raw: string | null, types: Record<string, string>): string[] | null {
  try {
    const found: unknown = JSON.parse(raw ?? "null");
    return Array.isArray(found) ? found.filter((one) => typeof one === "string" && one in types) : null;
  } catch {
    return null;
  }
}

export function Preview({ uri, types, version }: Props) {
  const given = parameters.value;
  const limit = LIMITS.includes(given.get("limit") ?? "") ? (given.get("limit") as string) : "1000";
  const filters = filtersOf(given.get("filters"));
  const columns = listOf(given.get("columns"), types);
  const order = given.get("sort");
  const sort: Sort | null = order && order.slice(1) in types ? { column: order.slice(1), descending: order[0] === "-" } : null;
  const scan: Scan = { uri, columns, filters, limit: Number(limit), ...version };
  const transforms = useLoaded("transforms", (signal) => get<TransformListAnswer>("/v1/transforms", {}, signal));
  const old = version.ref !== null || version.snapshot !== null;
  const sorts = !old && (transforms.value?.transforms.some(({ ref }) => ref === SQL) ?? false);
  const request = sort && sorts ? sorted(scan, sort) : body(scan, types);
  const ready = sort === null || transforms.value !== null || transforms.error !== null;
  const rows = useLoaded(ready ? request : null, (signal) =>
    read(url("/v1/materialize"), {
      method: "POST",
      body: request,
      headers: { "Content-Type": "application/json" },
      signal,
    }),
  );
  const onSort = (column: string) => {
    const next = sort?.column !== column ? `+${column}` : sort.descending ? null : `-${column}`;
    change({ sort: next });
  };
  return (
    <>
      <Filters types={types} filters={filters} />
      <div class="bar">
        <Columns all={Object.keys(types)} chosen={columns} />
        <Choice
          label="Rows"
          value={limit}
          options={LIMITS.map((one) => [one, `at most ${Number(one).toLocaleString()}`])}
          onChange={(value) => change({ limit: value === "1000" ? null : value })}
        />
        <ChartButton />
        <p class="result quiet" role="status">
          {rows.value &&
            `${plural(rows.value.table.numRows, "row")} in ${duration(rows.value.milliseconds)}${
              rows.value.table.numRows === Number(limit) ? ", perhaps not all" : ""
            }`}
          {rows.loading && "Reading…"}
        </p>
      </div>
      {sort && transforms.value && !sorts && (
        <p class="note">
          {old
            ? "Rows are sorted in the current version only; this one is shown in its own order."
            : `Sorting needs the transform ${SQL}, which this server does not have for you.`}
        </p>
      )}
      <Show of={rows} lines={12}>
        {(found) =>
          found.table.numRows === 0 ? (
            <Empty title={filters.length ? "No row matches the filters" : "This table has no rows"}>
              {filters.length > 0 && (
                <button type="button" onClick={() => change({ filters: null })}>
                  Remove the filters
                </button>
              )}
            </Empty>
          ) : (
            <>
              <ChartOfAddress
                table={found.table}
                part={found.table.numRows === Number(limit) ? `Of the ${plural(found.table.numRows, "row")} below, perhaps not all.` : undefined}
              />
              <Grid table={found.table} label={`Rows of ${uri}`} sort={sorts ? sort : null} {...(sorts ? { onSort } : {})} />
            </>
          )
        }
      </Show>
      <p class="quiet keys">
        Arrow keys move, Enter shows a whole value, Ctrl+C copies it{sorts && ", S sorts by its column"}.
      </p>
      <Samples scan={scan} types={types} request={request} sort={sorts ? sort : null} />
    </>
  );
}

function Filters({ types, filters }: { types: Record<string, string>; filters: Filter[] }) {
  const names = Object.keys(types);
  const id = useId();
  const [column, setColumn] = useState(names[0] ?? "");
  const [op, setOp] = useState("=");
  const [text, setText] = useState("");
  const set = (next: Filter[]) => change({ filters: next.length ? JSON.stringify(next) : null }, { replace: false });
  return (
    <form
      class="bar filters"
      onSubmit={(event) => {
        event.preventDefault();
        set([...filters, NO_VALUE.has(op) ? { column, op } : { column, op, value: text }]);
        setText("");
      }}
    >
      {filters.map((one, at) => (
        <span class="chip" key={at}>
          <code>{one.column}</code> {one.op} {one.value !== undefined && <code>{one.value}</code>}
          <button
            type="button"
            aria-label={`Remove the filter ${one.column} ${one.op} ${one.value ?? ""}`}
            onClick={() => set(filters.filter((_, other) => other !== at))}
          >
            ✕
          </button>
        </span>
      ))}
      <Choice label="Where" value={column} options={names.map((one) => [one, one])} onChange={setColumn} />
      <Choice label="Is" value={op} options={OPS.map((one) => [one, one])} onChange={setOp} />
      {!NO_VALUE.has(op) && (
        <div class="field">
          <label htmlFor={id}>{op === "in" || op === "not in" ? "Values, with commas" : `Value (${types[column] ?? ""})`}</label>
          <input id={id} value={text} autocomplete="off" spellcheck={false} onInput={(event) => setText(event.currentTarget.value)} />
        </div>
      )}
      <button type="submit">Add filter</button>
    </form>
  );
}

function Columns({ all, chosen }: { all: string[]; chosen: string[] | null }) {
  const [picked, setPicked] = useState(chosen ?? all);
  useEffect(() => setPicked(chosen ?? all), [JSON.stringify(chosen)]);
  return (
    <details class="picker">
      <summary>{chosen ? `${plural(chosen.length, "column")} of ${all.length}` : `All ${plural(all.length, "column")}`}</summary>
      <div class="picker-body">
        <ul>
          {all.map((name) => (
            <li key={name}>
              <label>
                <input
                  type="checkbox"
                  checked={picked.includes(name)}
                  onChange={(event) => {
                    const on = event.currentTarget.checked;
                    setPicked(all.filter((one) => (one === name ? on : picked.includes(one))));
                  }}
                />
                {name}
              </label>
            </li>
          ))}
        </ul>
        <p class="buttons">
          <button type="button" onClick={() => setPicked(picked.length === all.length ? [] : all)}>
            {picked.length === all.length ? "None" : "All"}
          </button>
          <button
            type="button"
            class="main"
            disabled={picked.length === 0}
            onClick={() => change({ columns: picked.length === all.length ? null : JSON.stringify(picked) })}
          >
            Show these
          </button>
        </p>
      </div>
    </details>
  );
}

function Samples({
  scan,
  types,
  request,
  sort,
}: {
  scan: Scan;
  types: Record<string, string>;
  request: string;
  sort: Sort | null;
}) {
  const address = ROOT.href.replace(/\/$/, "");
  const select = sql(scan, "input0", sort);
  const name = scan.uri.split(/[.:]/).at(-1) ?? "rows";
  const query = `with StrataClient(${JSON.stringify(address)}) as strata:\n    table = strata.sql(${JSON.stringify(
    select.replace("FROM input0", `FROM ${/^[a-z_][a-z0-9_]*$/i.test(name) ? name : "input0"}`),
  )}, ${/^[a-z_][a-z0-9_]*$/i.test(name) ? `${name}=${JSON.stringify(scan.uri)}` : JSON.stringify(scan.uri)})`;
  return (
    <section class="samples" aria-label="These rows as code">
      <h2>These rows as code</h2>
      <details>
        <summary>Python</summary>
        <Code name="Python" text={sort ? `from strata.client import StrataClient\n\n${query}\nprint(table.num_rows)` : client(scan, types, address)} />
      </details>
      <details>
        <summary>SQL</summary>
        <Code name="SQL" text={select} />
        <p class="quiet">
          <code>input0</code> is <code>{scan.uri}</code>
          {(scan.ref ?? scan.snapshot) && " in its current version: SQL reads no other"}. Run it as the transform <code>{SQL}</code>; see{" "}
          <a href={href("api", { q: "materialize" })}>the API</a>.
        </p>
      </details>
      <details>
        <summary>curl</summary>
        <Code name="curl" text={curl(request, `${address}/v1/materialize`)} />
      </details>
    </section>
  );
}
