// A chart of a table, with what it shows to choose from, and its numbers as a table.
import type { Table } from "apache-arrow";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { plural } from "../format";
import { Choice, Empty, known, Refusal, useLoaded, Waiting } from "../parts";
import { drawing, fieldsOf } from "./data";
import type { Drawing, Place } from "./data";
import { EACH, first, heightOf, HOWS, specOf, sound, titleOf } from "./spec";
import type { Each, How, Kind, Spec } from "./spec";
import "./chart.css";

const COLOURS = Array.from({ length: 8 }, (_, at) => `var(--series-${at})`);
const SHOWN = 100;

const NAMES: Record<Kind, string> = { bars: "Bars", line: "Line", points: "Points", spread: "How it spreads" };

interface Props {
  table: Table;
  /** What was chosen: a text of the address, or what a cell keeps. */
  given: unknown;
  onChange: (spec: Spec) => void;
  /** What the rows are of a whole, where they may not be all. */
  part?: string | undefined;
}

/** A chart with its choices. */
export function Chart({ table, given, onChange, part }: Props) {
  const fields = useMemo(() => fieldsOf(table), [table]);
  const spec = specOf(given, fields) ?? first(fields);
  if (!spec) return <Empty title="No column of this table can be drawn">A chart needs numbers, times or texts.</Empty>;
  const set = (values: Partial<Spec>) => onChange(sound({ ...spec, ...values }, fields));
  const options = (kinds: string[], none?: string): [string, string][] => [
    ...(none ? ([["", none]] as [string, string][]) : []),
    ...fields.filter(({ kind }) => kinds.includes(kind)).map(({ name }): [string, string] => [name, name]),
  ];
  const time = fields.find(({ name }) => name === spec.x)?.kind === "time";
  return (
    <section class="chart" aria-label="Chart">
      <div class="bar">
        <Choice label="Chart" value={spec.kind} options={Object.entries(NAMES)} onChange={(kind) => set({ kind: kind as Kind })} />
        <Choice label="Across" value={spec.x} options={options(spec.kind === "spread" ? ["number", "time"] : ["number", "time", "text"])} onChange={(x) => set({ x, each: "value" })} />
        {time && spec.kind !== "points" && spec.kind !== "spread" && (
          <Choice label="Each" value={spec.each} options={EACH.map((one) => [one, one])} onChange={(each) => set({ each: each as Each })} />
        )}
        {spec.kind !== "spread" && (
          <Choice label="Up" value={spec.y ?? ""} options={options(["number"], spec.kind === "points" ? undefined : "number of rows")} onChange={(y) => set({ y: y || null })} />
        )}
        {spec.y !== null && spec.kind !== "points" && (
          <Choice label="As" value={spec.how} options={HOWS.filter((one) => one !== "count").map((one) => [one, one])} onChange={(how) => set({ how: how as How })} />
        )}
        {spec.kind !== "spread" && <Choice label="Colours" value={spec.by ?? ""} options={options(["text", "number"], "one")} onChange={(by) => set({ by: by || null })} />}
      </div>
      <Picture table={table} spec={spec} part={part} />
    </section>
  );
}

/** A chart as it was kept; nothing of it can be changed. */
export function KeptChart({ table, given }: { table: Table; given: unknown }) {
  const fields = useMemo(() => fieldsOf(table), [table]);
  const spec = specOf(given, fields);
  if (!spec) return <p class="quiet">A chart was kept here, and the table has its columns no longer.</p>;
  return <Picture table={table} spec={spec} />;
}

function Picture({ table, spec, part }: { table: Table; spec: Spec; part?: string | undefined }) {
  const asked = JSON.stringify(spec);
  const of = useRef<{ table: Table | null; turn: number }>({ table: null, turn: 0 });
  if (of.current.table !== table) of.current = { table, turn: of.current.turn + 1 };
  const found = useLoaded(`${of.current.turn} ${asked}`, async (stop) => {
    const [of_, { draw }] = await Promise.all([drawing(table, spec, stop), import("./draw")]);
    return { of: of_, draw, spec };
  });
  // The last chart stays in sight while the next one is made.
  const last = useRef(found.value);
  if (found.value) last.current = found.value;
  if (found.error) return <Refusal error={found.error} again={found.again} />;
  const shown = found.value ?? last.current;
  if (!shown) return <Waiting lines={8} />;
  const title = titleOf(shown.spec);
  if (!shown.of.marks.length) return <Empty title="There is nothing to draw">{shown.of.told.join(" ")}</Empty>;
  return (
    <figure class="chart-figure" aria-label={title} aria-busy={found.loading ? "true" : undefined}>
      <figcaption>
        <strong>{title}</strong>
        <span class="quiet"> {part ?? `Of ${plural(shown.of.rows, "row")}.`}</span>
        {shown.of.told.map((text) => (
          <span class="quiet"> {text}</span>
        ))}
      </figcaption>
      {shown.of.series.length > 1 && (
        <ul class="legend" aria-label="Colours">
          {shown.of.series.map((name, at) => (
            <li key={name}>
              <span class="swatch" aria-hidden="true" style={{ background: COLOURS[at] }} />
              {name}
            </li>
          ))}
        </ul>
      )}
      <Canvas of={shown.of} spec={shown.spec} draw={shown.draw} />
      <Numbers of={shown.of} spec={shown.spec} />
    </figure>
  );
}

function Canvas({ of, spec, draw }: { of: Drawing; spec: Spec; draw: typeof import("./draw").draw }) {
  const box = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  const [failed, setFailed] = useState<string | null>(null);
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const watch = new ResizeObserver(() => setWidth(element.clientWidth));
    watch.observe(element);
    return () => watch.disconnect();
  }, []);
  useEffect(() => {
    if (!width) return;
    try {
      box.current?.replaceChildren(draw({ spec, of, width, colours: COLOURS }));
      setFailed(null);
    } catch (error) {
      box.current?.replaceChildren();
      setFailed(known(error).message);
    }
  }, [of, spec, width]);
  return (
    <>
      <div ref={box} class="drawn" />
      {failed && <p class="quiet">It could not be drawn: {failed}</p>}
    </>
  );
}

function shownPlace(place: Place | undefined): string {
  if (place instanceof Date) return place.toISOString().replace(".000Z", "Z").replace("T00:00:00Z", "").replace("T", " ");
  return typeof place === "number" ? place.toLocaleString(undefined, { maximumSignificantDigits: 15 }) : String(place);
}

/** The numbers of a chart, for those who do not see it. */
function Numbers({ of, spec }: { of: Drawing; spec: Spec }) {
  const [open, setOpen] = useState(false);
  const several = of.series.length > 1;
  return (
    <details class="numbers" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>The numbers as a table</summary>
      {open && (
        <div class="scroll" tabIndex={0} role="region" aria-label={`Numbers: ${titleOf(spec)}`}>
          <table>
            <thead>
              <tr>
                <th scope="col">{spec.x}</th>
                {several && <th scope="col">{spec.by}</th>}
                <th scope="col" class="number">
                  {heightOf(spec)}
                </th>
              </tr>
            </thead>
            <tbody>
              {of.marks.slice(0, SHOWN).map((one, at) => (
                <tr key={at}>
                  <td>
                    {shownPlace(one.x)}
                    {one.to !== undefined && ` to ${shownPlace(one.to)}`}
                  </td>
                  {several && <td>{one.by}</td>}
                  <td class="number">{one.y.toLocaleString(undefined, { maximumSignificantDigits: 15 })}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {open && of.marks.length > SHOWN && <p class="quiet">The first {SHOWN} of {of.marks.length.toLocaleString()}.</p>}
    </details>
  );
}

