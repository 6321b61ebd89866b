// The schedules of a notebook: when they run next, pause, go on, delete, and a form for another one.
import { useId, useState } from "preact/hooks";
import { ask, get } from "../api";
import type { ApiError } from "../api";
import { useLive } from "../live";
import { Badge, Choice, Confirm, known, Refusal, Show, Time } from "../parts";
import type { DeletedScheduleAnswer, ScheduleAnswer, SchedulesAnswer } from "../types";
import type { Workbench } from "./bench";
import { parametersOf } from "./runs";

const AGAIN = 15;

const USUAL: [string, string][] = [
  ["0 * * * *", "every hour"],
  ["0 7 * * *", "every day at 7:00"],
  ["0 7 * * mon-fri", "Monday to Friday at 7:00"],
  ["0 7 * * mon", "every Monday at 7:00"],
  ["0 7 1 * *", "on the first of each month at 7:00"],
  ["", "other times"],
];

function zones(): string[] {
  const here = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
  return [...new Set([here, "UTC", ...Intl.supportedValuesOf("timeZone")])];
}

/** Return a moment as the clock of a time zone shows it. */
function shown(iso: string, zone: string): string {
  const at = new Date(iso);
  try {
    return new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short", timeZone: zone }).format(at);
  } catch {
    // A zone of the server that this browser does not have.
    return `${new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short", timeZone: "UTC" }).format(at)} UTC`;
  }
}

export function Schedules({ bench }: { bench: Workbench }) {
  const path = `/v1/notebooks/${encodeURIComponent(bench.document.name)}/schedules`;
  const list = useLive(path, AGAIN, (signal) => get<SchedulesAnswer>(path, {}, signal));
  const [error, setError] = useState<ApiError | null>(null);
  const [deleting, setDeleting] = useState<ScheduleAnswer | null>(null);
  const [adding, setAdding] = useState(false);
  const act = async (what: () => Promise<unknown>) => {
    try {
      await what();
      setError(null);
    } catch (refused) {
      setError(known(refused));
    }
    list.again();
  };
  const place = (one: ScheduleAnswer) => `${path}/${encodeURIComponent(one.schedule)}`;
  return (
    <section aria-labelledby="schedules-title" class="nb-schedules">
      <h2 id="schedules-title">Schedules</h2>
      {error && <Refusal error={error} />}
      <Show of={list} lines={2}>
        {({ schedules }) =>
          schedules.length === 0 ? (
            <p class="quiet">No schedule runs this notebook.</p>
          ) : (
            <ul class="nb-schedule-list" aria-label="Schedules">
              {schedules.map((one) => (
                <li key={one.schedule} class="card">
                  <p>
                    <code>{one.cron}</code> <span>in {one.time_zone}</span> {one.paused ? <Badge kind="warn">paused</Badge> : one.next_at ? <Badge kind="good">on</Badge> : <Badge kind="bad">stopped</Badge>}
                    <span class="quiet">
                      {" "}
                      as {one.owner}
                      {one.retries > 0 && `, ${one.retries} more after a failure`}
                      {one.overlap === "allow" && ", beside itself"}
                      {one.missed === "run" && ", makes up for missed times"}
                    </span>
                  </p>
                  {Object.keys(one.parameters).length > 0 && (
                    <p>
                      <code>{JSON.stringify(one.parameters)}</code>
                    </p>
                  )}
                  {one.message && <p class="quiet">{one.message}</p>}
                  {one.next_at && (
                    <p>
                      Next <Time at={one.next_at} />: <span class="quiet">{one.next_times.map((at) => shown(at, one.time_zone)).join("; ")}</span>
                    </p>
                  )}
                  {bench.executes && (
                    <p class="buttons left">
                      <button
                        type="button"
                        class="small"
                        onClick={() => void act(() => ask<ScheduleAnswer>("PATCH", place(one), JSON.stringify({ paused: !one.paused && one.next_at !== null })))}
                        aria-label={`${one.paused || one.next_at === null ? "Have go on" : "Pause"}: ${one.cron}`}
                      >
                        {one.paused || one.next_at === null ? "Go on" : "Pause"}
                      </button>
                      <button type="button" class="small danger" onClick={() => setDeleting(one)} aria-label={`Delete: ${one.cron}`}>
                        Delete
                      </button>
                    </p>
                  )}
                </li>
              ))}
            </ul>
          )
        }
      </Show>
      {bench.executes &&
        (adding ? (
          <Form
            path={path}
            done={() => {
              setAdding(false);
              list.again();
            }}
          />
        ) : (
          <p class="buttons left">
            <button type="button" onClick={() => setAdding(true)}>
              New schedule
            </button>
          </p>
        ))}
      {deleting && (
        <Confirm
          title="Delete"
          word={deleting.cron}
          onNo={() => setDeleting(null)}
          onYes={() => {
            const gone = deleting;
            setDeleting(null);
            void act(() => ask<DeletedScheduleAnswer>("DELETE", place(gone)));
          }}
        >
          The schedule is deleted; a run of it goes on.
        </Confirm>
      )}
    </section>
  );
}

function Form({ path, done }: { path: string; done: () => void }) {
  const id = useId();
  const [usual, setUsual] = useState(USUAL[1]?.[0] ?? "");
  const [cron, setCron] = useState(usual);
  const [all] = useState(zones);
  const [zone, setZone] = useState(all[0] ?? "UTC");
  const [text, setText] = useState("");
  const [overlap, setOverlap] = useState("skip");
  const [missed, setMissed] = useState("skip");
  const [retries, setRetries] = useState("0");
  const [wrong, setWrong] = useState<string | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const send = async () => {
    const found = parametersOf(text);
    setWrong(typeof found === "string" ? found : null);
    if (typeof found === "string") return;
    const body = { cron: cron.trim(), time_zone: zone, parameters: found, overlap, missed, retries: Number(retries) };
    try {
      await ask<ScheduleAnswer>("POST", path, JSON.stringify(body));
      done();
    } catch (refused) {
      setError(known(refused));
    }
  };
  return (
    <form
      class="card"
      aria-label="New schedule"
      onSubmit={(event) => {
        event.preventDefault();
        void send();
      }}
    >
      <div class="bar">
        <Choice
          label="Runs"
          value={usual}
          options={USUAL}
          onChange={(value) => {
            setUsual(value);
            if (value) setCron(value);
          }}
        />
        <div class="field">
          <label htmlFor={`${id}-cron`}>Minute, hour, day, month, weekday</label>
          <input
            id={`${id}-cron`}
            value={cron}
            maxLength={256}
            autocomplete="off"
            spellcheck={false}
            onInput={(event) => {
              setCron(event.currentTarget.value);
              setUsual(USUAL.some(([value]) => value === event.currentTarget.value) ? event.currentTarget.value : "");
            }}
          />
        </div>
        <Choice label="Time zone" value={zone} options={all.map((one) => [one, one])} onChange={setZone} />
        <div class="field grow">
          <label htmlFor={`${id}-parameters`}>Parameters, as JSON</label>
          <input id={`${id}-parameters`} value={text} placeholder="{}" autocomplete="off" spellcheck={false} onInput={(event) => setText(event.currentTarget.value)} />
        </div>
      </div>
      <div class="bar">
        <Choice label="While a run goes on" value={overlap} options={[["skip", "pass the time over"], ["allow", "begin another one"]]} onChange={setOverlap} />
        <Choice label="Times without a server" value={missed} options={[["skip", "pass them over"], ["run", "run once for all"]]} onChange={setMissed} />
        <Choice label="Runs more after a failure" value={retries} options={["0", "1", "2", "3", "4", "5"].map((one) => [one, one])} onChange={setRetries} />
      </div>
      <p class="quiet">It runs as you, with the rights that you have at the time.</p>
      {wrong && (
        <p class="note" role="alert">
          {wrong}
        </p>
      )}
      {error && <Refusal error={error} />}
      <p class="buttons left">
        <button type="submit" class="main">
          Make the schedule
        </button>
        <button type="button" onClick={done}>
          Cancel
        </button>
      </p>
    </form>
  );
}
