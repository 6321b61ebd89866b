// What a cell has left for other cells: its values, of which tables can be opened and drawn.
import type { Table } from "apache-arrow";
import { useState } from "preact/hooks";
import { send } from "../api";
import { LazyChart, LazyKeptChart } from "../chart/lazy";
import { bytes, plural } from "../format";
import { Refusal, Show, useLoaded, Waiting } from "../parts";
import type { ValueAnswer } from "../types";
import { address, Text, useNear } from "./shown";
import type { Place } from "./shown";

const OPENED = 16 * 1024 * 1024;
const TABLE = "arrow/ipc";
const JSON_VALUE = "json/object";

/** The charts that a cell keeps by the names of its values, and what keeps another one; null where nothing is kept. */
export interface Charts {
  kept: Record<string, unknown>;
  keep: ((name: string, chart: object | null) => void) | null;
}

interface Props {
  place: Place;
  values: Record<string, ValueAnswer>;
  stamp: string;
  charts: Charts;
  told: boolean;
}

export function Values({ place, values, stamp, charts, told }: Props) {
  const drawn = Object.entries(charts.kept).filter(([name]) => values[name]?.content_type === TABLE);
  return (
    <>
      {drawn.map(([name, chart]) => (
        <Kept key={`${name} ${values[name]?.sha256}`} place={place} name={name} chart={chart} of={values[name] as ValueAnswer} />
      ))}
      {told && <Names place={place} values={values} stamp={stamp} charts={charts} />}
    </>
  );
}

/** A chart that the cell keeps, of what its value is now. */
function Kept({ place, name, chart, of }: { place: Place; name: string; chart: unknown; of: ValueAnswer }) {
  const [box, near] = useNear();
  const fits = of.bytes <= OPENED;
  const found = useLoaded(near && fits ? name : null, async (signal) => {
    const { read } = await import("../grid/arrow");
    return (await read(address(place, { value: name }), { signal })).table;
  });
  return (
    <div ref={box} class="kept-chart">
      {!fits && <p class="quiet">The chart of {name} is not drawn: the table is larger than {bytes(OPENED)}.</p>}
      {fits && <Show of={found}>{(table) => <LazyKeptChart table={table} given={chart} />}</Show>}
    </div>
  );
}

function Names({ place, values, stamp, charts }: Omit<Props, "told">) {
  const [opened, setOpened] = useState<string | null>(null);
  const names = Object.keys(values).filter((name) => !["module/import"].includes(values[name]?.content_type ?? ""));
  if (!names.length) return null;
  const one = opened === null ? undefined : values[opened];
  return (
    <div class="values">
      <ul aria-label="Values">
        {names.map((name) => {
          const value = values[name] as ValueAnswer;
          const opens = [TABLE, JSON_VALUE].includes(value.content_type) && value.bytes <= OPENED;
          const about = `${value.type}, ${bytes(value.bytes)}: ${value.preview}`;
          return (
            <li key={name}>
              {opens ? (
                <button type="button" class="value" aria-expanded={opened === name} title={about} onClick={() => setOpened(opened === name ? null : name)}>
                  <code>{name}</code> <span>{value.preview || value.type}</span>
                </button>
              ) : (
                <span class="value" title={about}>
                  <code>{name}</code> <span>{value.preview || value.type}</span>
                </span>
              )}
            </li>
          );
        })}
      </ul>
      {opened !== null && one && <Value key={`${opened} ${one.sha256} ${stamp}`} place={place} name={opened} of={one} charts={charts} />}
    </div>
  );
}

function Value({ place, name, of, charts }: { place: Place; name: string; of: ValueAnswer; charts: Charts }) {
  const kept = charts.kept[name];
  const [chart, setChart] = useState<object | null>(null);
  const found = useLoaded(name, async (signal) => {
    if (of.content_type === TABLE) {
      const [{ read }, { Grid }] = await Promise.all([import("../grid/arrow"), import("../grid/grid")]);
      return { table: (await read(address(place, { value: name }), { signal })).table, Grid, text: "" };
    }
    const text = await (await send(address(place, { value: name }), { signal })).text();
    return { table: null as Table | null, Grid: null, text: pretty(text) };
  });
  if (found.error) return <Refusal error={found.error} again={found.again} />;
  if (!found.value) return <Waiting lines={4} />;
  const { table, Grid, text } = found.value;
  if (!table || !Grid) return <Text text={text} name={`Value of ${name}`} />;
  return (
    <div class="opened">
      <div class="opened-line">
        <p class="quiet size">
          <code>{name}</code>: {plural(table.numRows, "row")}, {plural(table.numCols, "column")}
        </p>
        {table.numRows > 0 && (
          <button type="button" class="small" aria-expanded={chart !== null} onClick={() => setChart(chart ? null : (kept as object | undefined) ?? {})}>
            Chart
          </button>
        )}
        {chart && charts.keep && (
          <button type="button" class="small" onClick={() => charts.keep?.(name, chart)}>
            Keep this chart in the notebook
          </button>
        )}
        {kept !== undefined && charts.keep && (
          <button type="button" class="small" onClick={() => charts.keep?.(name, null)}>
            Remove the kept chart
          </button>
        )}
      </div>
      {chart && <LazyChart table={table} given={chart} onChange={setChart} />}
      <Grid table={table} label={`Rows of ${name}`} />
    </div>
  );
}

/** Indent a JSON text without reading it, so that each number keeps its digits. */
export function pretty(text: string): string {
  let depth = 0;
  let quoted = false;
  let out = "";
  for (let at = 0; at < text.length; at++) {
    const one = text[at] ?? "";
    if (quoted) {
      out += one;
      if (one === "\\") out += text[++at] ?? "";
      else if (one === '"') quoted = false;
    } else if (one === '"') {
      quoted = true;
      out += one;
    } else if (one === "{" || one === "[") {
      depth += 1;
      out += one;
      if (text[at + 1] !== "}" && text[at + 1] !== "]") out += `\n${"  ".repeat(Math.min(depth, 40))}`;
    } else if (one === "}" || one === "]") {
      depth -= 1;
      out += text[at - 1] === "{" || text[at - 1] === "[" ? one : `\n${"  ".repeat(Math.min(depth, 40))}${one}`;
    } else if (one === ",") out += `,\n${"  ".repeat(Math.min(depth, 40))}`;
    else if (one === ":") out += ": ";
    else if (!/\s/.test(one)) out += one;
  }
  return out;
}
