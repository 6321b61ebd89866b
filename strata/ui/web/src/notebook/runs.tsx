// Runs of the whole notebook without a browser, and the schedules that begin them.
import { useId, useState } from "preact/hooks";
import { ask, get } from "../api";
import type { ApiError } from "../api";
import { duration, time } from "../format";
import { useLive } from "../live";
import { Badge, Empty, Facts, known, More, Refusal, Show, Time, usePages } from "../parts";
import { change, parameters } from "../router";
import type { NotebookRunAnswer, NotebookRunsAnswer, RunCellAnswer } from "../types";
import type { Workbench } from "./bench";
import { called } from "./reasons";
import { Schedules } from "./schedules";
import { Text } from "./shown";

const PAGE = 20;
/** Seconds between two looks at what may have changed. */
const AGAIN = 5;

const STATES: Record<string, [string, string]> = {
  running: ["run", "running"],
  ok: ["good", "ok"],
  failed: ["bad", "failed"],
  cancelled: ["", "cancelled"],
  timeout: ["bad", "took too long"],
  lost: ["bad", "lost"],
};

export function RunState({ of }: { of: string }) {
  const [kind, word] = STATES[of] ?? ["", of];
  return <Badge kind={kind}>{word}</Badge>;
}

function took(run: NotebookRunAnswer): string {
  if (!run.ended_at) return "";
  return duration(new Date(run.ended_at).getTime() - new Date(run.began_at).getTime());
}

/** Return the parameters that a text says; an error in a sentence where it says none. */
export function parametersOf(text: string): Record<string, unknown> | string {
  if (!text.trim()) return {};
  try {
    const found: unknown = JSON.parse(text);
    if (typeof found === "object" && found !== null && !Array.isArray(found)) return found as Record<string, unknown>;
  } catch {
    // Told below, as for JSON of another kind.
  }
  return 'Parameters are a JSON object, such as {"month": 2}.';
}

export function Runs({ bench }: { bench: Workbench }) {
  const { name } = bench.document;
  const path = `/v1/notebooks/${encodeURIComponent(name)}/runs`;
  const [turn, setTurn] = useState(0);
  const chosen = parameters.value.get("run");
  // What is new at the top is looked for again and again; pages behind it are those of their time.
  const newest = useLive(`${path} ${turn}`, AGAIN, (signal) => get<NotebookRunsAnswer>(path, { limit: 1 }, signal));
  const stamp = JSON.stringify(newest.value?.runs.map(({ run, state }) => [run, state]) ?? null);
  const list = usePages<NotebookRunAnswer>(`${path} ${turn} ${stamp}`, async (token, signal) => {
    const found = await get<NotebookRunsAnswer>(path, { limit: PAGE, page_token: token }, signal);
    return { items: found.runs, next: found.next_page_token };
  });
  const shown = chosen ?? list.items[0]?.run ?? null;
  return (
    <>
      <Schedules bench={bench} />
      <section aria-labelledby="runs-title">
        <h2 id="runs-title">Runs</h2>
        {bench.executes && <Start bench={bench} path={path} began={() => setTurn(turn + 1)} />}
        <div class="nb-history">
          <Show of={list}>
            {() =>
              list.items.length === 0 ? (
                <Empty title="No runs yet">A run takes all cells of one revision in order, and goes on when this page is closed.</Empty>
              ) : (
                <div>
                  <ul class="nb-revisions" aria-label="Runs">
                    {list.items.map((one) => (
                      <li key={one.run} class={one.run === shown ? "chosen" : ""}>
                        <button type="button" aria-pressed={one.run === shown} onClick={() => change({ run: one.run })}>
                          <RunState of={one.state} /> <Time at={one.began_at} />{" "}
                          <span class="quiet">
                            revision {one.revision}, {one.schedule ? "scheduled" : `by ${one.author}`} {took(one)}
                          </span>
                        </button>
                      </li>
                    ))}
                  </ul>
                  <More list={list} />
                </div>
              )
            }
          </Show>
          {shown !== null && <Run key={shown} bench={bench} path={`${path}/${encodeURIComponent(shown)}`} />}
        </div>
      </section>
    </>
  );
}

function Start({ bench, path, began }: { bench: Workbench; path: string; began: () => void }) {
  const id = useId();
  const [text, setText] = useState("");
  const [error, setError] = useState<ApiError | null>(null);
  const [wrong, setWrong] = useState<string | null>(null);
  const start = async () => {
    const found = parametersOf(text);
    setWrong(typeof found === "string" ? found : null);
    if (typeof found === "string") return;
    try {
      if (!(await bench.saved())) return;
      const run = await ask<NotebookRunAnswer>("POST", path, JSON.stringify({ parameters: found }));
      setError(null);
      change({ run: run.run });
      began();
    } catch (refused) {
      setError(known(refused));
    }
  };
  return (
    <>
      <form
        class="bar"
        onSubmit={(event) => {
          event.preventDefault();
          void start();
        }}
      >
        <div class="field grow">
          <label htmlFor={id}>Parameters of the run, as JSON</label>
          <input id={id} value={text} placeholder="{}" autocomplete="off" spellcheck={false} aria-describedby={wrong ? `${id}-wrong` : undefined} aria-invalid={wrong ? "true" : undefined} onInput={(event) => setText(event.currentTarget.value)} />
        </div>
        <button type="submit" class="main">
          Start a run
        </button>
      </form>
      {wrong && (
        <p class="note" role="alert" id={`${id}-wrong`}>
          {wrong}
        </p>
      )}
      {error && <Refusal error={error} />}
    </>
  );
}

function Run({ bench, path }: { bench: Workbench; path: string }) {
  const [ended, setEnded] = useState(false);
  const [error, setError] = useState<ApiError | null>(null);
  const run = useLive(`${path} ${ended}`, ended ? 3600 : 2, async (signal) => {
    const found = await get<NotebookRunAnswer>(path, {}, signal);
    if (found.state !== "running") setEnded(true);
    return found;
  });
  const cancel = async () => {
    try {
      await ask<NotebookRunAnswer>("POST", `${path}/cancel`, "{}");
      setError(null);
      run.again();
    } catch (refused) {
      setError(known(refused));
    }
  };
  return (
    <section class="card nb-run" aria-label="One run">
      <Show of={run}>
        {(found) => (
          <>
            <Facts
              of={[
                ["State", <RunState of={found.state} />],
                ["Began", <Time at={found.began_at} />, time(found.began_at)],
                ["Took", took(found) || "—"],
                ["Revision", found.revision],
                ["By", found.schedule ? `${found.author}, scheduled` : found.author],
                ...(Object.keys(found.parameters).length ? [["Parameters", <code>{JSON.stringify(found.parameters)}</code>] as [string, preact.JSX.Element]] : []),
              ]}
            />
            {found.state === "lost" && <p class="note">Its server ended, or did not say for a minute that it went on. Start it again.</p>}
            {found.state === "running" && bench.executes && (
              <p class="buttons left">
                <button type="button" class="danger" onClick={() => void cancel()}>
                  Cancel the run
                </button>
              </p>
            )}
            {error && <Refusal error={error} />}
            {found.cells.length === 0 && <p class="quiet">No cell of it has ended yet.</p>}
            <ol class="nb-run-cells" aria-label="Cells of the run">
              {found.cells.map((one) => (
                <li key={one.cell}>
                  <CellOfRun of={one} name={called(bench.document.cells.value, one.cell)} />
                </li>
              ))}
            </ol>
          </>
        )}
      </Show>
    </section>
  );
}

const GOOD = new Set(["ok", "computed", "reused", "unchanged"]);

function CellOfRun({ of, name }: { of: RunCellAnswer; name: string }) {
  const texts = [of.stdout, of.stderr, of.traceback, ...of.displays].filter(Boolean).length;
  return (
    <>
      <p class="nb-state">
        <strong>{of.cell === "run-parameters" ? "parameters of the run" : name}</strong> <Badge kind={GOOD.has(of.how) ? "good" : of.how === "skipped" ? "warn" : "bad"}>{of.how}</Badge>
        <span class="quiet">
          {duration(of.seconds * 1000)}
          {of.hidden ? "; the rest comes from tables that you may not read" : texts ? "" : of.message ? "" : "; nothing printed"}
        </span>
      </p>
      {of.message && <p class="nb-run-message">{of.message}</p>}
      {of.stdout && <Text text={of.stdout} name={`Printed by ${name}`} />}
      {of.stderr && <Text text={of.stderr} name={`Printed as errors by ${name}`} kind="stderr" />}
      {of.displays.map((text, at) => (
        <Text key={at} text={text} name={`Output ${at + 1} of ${name}`} />
      ))}
      {of.traceback && (
        <details>
          <summary>Traceback</summary>
          <Text text={of.traceback} name={`Traceback of ${name}`} />
        </details>
      )}
    </>
  );
}

