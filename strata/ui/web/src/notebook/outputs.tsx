// What runs of a cell have left: texts, tables, pictures, values, errors. All of it is shown as text, or drawn.
import type { ComponentType } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { send } from "../api";
import { bytes, count, duration, plural } from "../format";
import { known, Refusal, useLoaded, Waiting } from "../parts";
import type { CellResultAnswer } from "../types";
import type { Printed } from "./session";
import { address, terminal, Text, useNear } from "./shown";
import type { Place } from "./shown";
import { Values } from "./values";
import type { Charts } from "./values";

const LINES = 30;
const PIXELS = 4_000;

export function Console({ of }: { of: Printed[] }) {
  if (!of.length) return null;
  return (
    <div class="live" role="log" aria-label="Console">
      {of.map((one, at) => (
        <pre key={at} class={one.stream}>
          {terminal(one.text).split("\n").slice(-LINES).join("\n")}
        </pre>
      ))}
    </div>
  );
}

interface OutputsProps {
  place: Place;
  result: CellResultAnswer;
  stamp: string;
  charts: Charts;
  /** Whether the values that may be opened are told, besides their charts. */
  values?: boolean;
}

export function Outputs({ place, result, stamp, charts, values = true }: OutputsProps) {
  return (
    <div class="outputs">
      {result.stdout && <Text text={result.stdout} name="Printed" />}
      {result.stderr && <Text text={result.stderr} name="Printed as errors" kind="stderr" />}
      {result.displays.map((one, at) => (
        <Display key={`${stamp} ${at}`} place={place} at={at} size={one.bytes} preview={one.preview} type={one.content_type} />
      ))}
      {result.displays_left_out > 0 && <p class="quiet">{plural(result.displays_left_out, "further output")} not kept.</p>}
      <Values place={place} values={result.values} stamp={stamp} charts={charts} told={values} />
    </div>
  );
}

interface Loaded {
  type: string;
  text: string | null;
  data: Blob | null;
}

function Display({ place, at, size, preview, type }: { place: Place; at: number; size: number; preview: string; type: string }) {
  const [box, near] = useNear();
  const found = useLoaded<Loaded>(near ? `${place.notebook} ${place.cell} ${at}` : null, async (signal) => {
    const answer = await send(address(place, { display: at }), { signal });
    // What came counts: another run may have left something else in the meantime.
    const kind = (answer.headers.get("Content-Type") ?? "").split(";")[0] ?? "";
    const picture = kind === "image/png";
    return { type: kind, text: picture ? null : await answer.text(), data: picture ? await answer.blob() : null };
  });
  return (
    <div ref={box} class="display" data-type={type}>
      {found.value ? (
        <Shown of={found.value} preview={preview} name={`${place.called}, output ${at + 1}`} />
      ) : found.error ? (
        found.error.status === 404 ? <p class="quiet">This output has been replaced.</p> : <Refusal error={found.error} again={found.again} />
      ) : size > 2000 ? (
        <Waiting lines={3} />
      ) : (
        <pre class="quiet">{preview}</pre>
      )}
    </div>
  );
}

function Shown({ of, preview, name }: { of: Loaded; preview: string; name: string }) {
  if (of.data) return <Picture data={of.data} name={preview} />;
  const text = of.text ?? "";
  if (of.type === "text/markdown") return <Rendered text={text} />;
  if (of.type === "application/json") return <Rows text={text} name={name} />;
  return <Text text={text} name="Output" />;
}

/** A picture that a cell made, drawn: nothing of it is taken for a document. */
function Picture({ data, name }: { data: Blob; name: string }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [failed, setFailed] = useState(false);
  useEffect(() => {
    let current = true;
    void (async () => {
      try {
        const picture = await createImageBitmap(data);
        const target = canvas.current;
        if (!current || !target) return;
        const scale = Math.min(1, PIXELS / Math.max(picture.width, picture.height));
        target.width = Math.max(1, Math.round(picture.width * scale));
        target.height = Math.max(1, Math.round(picture.height * scale));
        target.getContext("2d")?.drawImage(picture, 0, 0, target.width, target.height);
        picture.close();
      } catch {
        if (current) setFailed(true);
      }
    })();
    return () => {
      current = false;
    };
  }, [data]);
  if (failed) return <p class="quiet">A picture that this browser cannot show ({bytes(data.size)}).</p>;
  return <canvas ref={canvas} role="img" aria-label={`Picture: ${name}`} class="picture" />;
}

/** Markdown, whose reader is loaded with the first one. */
export function Rendered({ text }: { text: string }) {
  const [Part, setPart] = useState<{ of: ComponentType<{ text: string }> } | null>(null);
  const [failed, setFailed] = useState<string | null>(null);
  useEffect(() => {
    import("./markdown").then(
      (found) => setPart({ of: found.Markdown }),
      (error: unknown) => setFailed(known(error).message),
    );
  }, []);
  if (failed) return <pre>{text}</pre>;
  return Part ? <Part.of text={text} /> : <pre class="quiet">{text.slice(0, 500)}</pre>;
}

interface FirstRows {
  columns: string[];
  types: string[];
  rows: (string | null)[][];
  total_rows: number;
  total_columns: number;
}

const NUMBER = /^(u?int|float|double|halffloat|decimal)/;

function Rows({ text, name }: { text: string; name: string }) {
  const of = useMemo<FirstRows | null>(() => {
    try {
      const found = JSON.parse(text) as FirstRows;
      return Array.isArray(found.columns) && Array.isArray(found.types) && Array.isArray(found.rows) && found.rows.every(Array.isArray) ? found : null;
    } catch {
      return null;
    }
  }, [text]);
  if (!of) return <Text text={text} name="Output" />;
  const kind = (at: number) => (NUMBER.test(String(of.types[at])) ? "number" : "");
  return (
    <>
      <div class="scroll rows" tabIndex={0} role="region" aria-label={`Table of ${name}`}>
        <table>
          <thead>
            <tr>
              {of.columns.map((name, at) => (
                <th key={at} scope="col" class={kind(at)} title={String(of.types[at])}>
                  {String(name)}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {of.rows.map((row, line) => (
              <tr key={line}>
                {row.map((value, at) => (
                  <td key={at} class={value === null ? "null" : kind(at)}>
                    {value === null ? "null" : String(value)}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <p class="quiet size">
        {of.rows.length < of.total_rows ? `The first ${count(of.rows.length)} of ${plural(of.total_rows, "row")}` : plural(of.total_rows, "row")}
        {of.columns.length < of.total_columns ? `, ${count(of.columns.length)} of ${plural(of.total_columns, "column")}` : `, ${plural(of.total_columns, "column")}`}
      </p>
    </>
  );
}

const OUTCOMES: Record<string, string> = {
  raised: "Error",
  value_not_kept: "A value cannot be kept",
  interrupted: "Interrupted",
  timeout: "Time limit",
  cpu_limit: "Processor limit",
  memory_limit: "Memory limit",
  output_limit: "Output limit",
  console_limit: "Console limit",
  process_ended: "The process ended",
  not_started: "Not started",
  worker_lost: "The worker was lost",
};

export function Failure({ result, onLine }: { result: CellResultAnswer; onLine?: (line: number) => void }) {
  return (
    <div class="failure" role="group" aria-label="Error">
      <p>
        <strong>{OUTCOMES[result.outcome] ?? result.outcome}</strong>
        {result.line !== null &&
          (onLine ? (
            <button type="button" class="small" onClick={() => onLine(result.line ?? 1)}>
              line {result.line}
            </button>
          ) : (
            <span class="quiet"> line {result.line}</span>
          ))}{" "}
        <span class="message">{terminal(result.message)}</span>
      </p>
      {result.traceback && (
        <details>
          <summary>Traceback</summary>
          <pre tabIndex={0} aria-label="Traceback">
            {terminal(result.traceback)}
          </pre>
        </details>
      )}
    </div>
  );
}

export function took(seconds: number): string {
  return duration(seconds * 1000);
}
