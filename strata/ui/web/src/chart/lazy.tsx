// Charts on demand: their code comes with the first one that is asked for.
import type { Table } from "apache-arrow";
import type { ComponentProps } from "preact";
import { Refusal, useLoaded, Waiting } from "../parts";
import { change, parameters } from "../router";
import type { Chart } from "./chart";

/** A chart whose choices are changed by what is around it. */
export function LazyChart(props: ComponentProps<typeof Chart>) {
  const code = useLoaded("chart", async () => (await import("./chart")).Chart);
  if (code.error) return <Refusal error={code.error} again={code.again} />;
  return code.value ? <code.value {...props} /> : <Waiting lines={8} />;
}

export function LazyKeptChart(props: { table: Table; given: unknown }) {
  const code = useLoaded("chart", async () => (await import("./chart")).KeptChart);
  if (code.error) return <Refusal error={code.error} again={code.again} />;
  return code.value ? <code.value {...props} /> : <Waiting lines={8} />;
}

/** The button that opens a chart of rows, whose choices are in the address. */
export function ChartButton() {
  const open = parameters.value.has("chart");
  return (
    <button type="button" aria-expanded={open} onClick={() => change({ chart: open ? null : "{}" })}>
      Chart
    </button>
  );
}

export function ChartOfAddress({ table, part }: { table: Table; part?: string | undefined }) {
  const given = parameters.value.get("chart");
  if (given === null || table.numRows === 0) return null;
  return <LazyChart table={table} given={given} part={part} onChange={(spec) => change({ chart: JSON.stringify(spec) })} />;
}
