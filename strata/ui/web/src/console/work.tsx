// What a tenant does now: its builds and its streams, page by page, with filters; and the end of builds.
import { useEffect, useState } from "preact/hooks";
import type { ComponentChildren } from "preact";
import { Told, useAct } from "../act";
import { ask, get } from "../api";
import { bytes, count, duration, plural, rate } from "../format";
import { useLive } from "../live";
import { Badge, Choice, Confirm, Empty, Refusal, Search, Waiting } from "../parts";
import { place, short } from "../pages/results";
import { change, parameters } from "../router";
import type { BuildLineAnswer, BuildLinesAnswer, StoppedAnswer, StreamLinesAnswer } from "../types";

const PAGE = 50;
const SECONDS = 3;

const BUILDS: [string, string][] = [
  ["", "All states"],
  ["waiting", "Waiting"],
  ["building", "Building"],
  ["committing", "Committing"],
  ["elsewhere", "On another server"],
];
const STREAMS: [string, string][] = [
  ["", "All states"],
  ["unread", "Unread"],
  ["being read", "Being read"],
  ["read", "Read"],
];

/** The buttons of a list that the server pages: the first page, and the next one. */
export function Turn({ next, name = "after" }: { next: string | number | null | undefined; name?: string }) {
  const after = parameters.value.get(name);
  return (
    <p class="buttons left">
      {after && (
        <button type="button" onClick={() => change({ [name]: null })}>
          First page
        </button>
      )}
      {next != null && (
        <button type="button" onClick={() => change({ [name]: next })}>
          Next page
        </button>
      )}
    </p>
  );
}

function Filters({ states }: { states: [string, string][] }) {
  const given = parameters.value;
  return (
    <>
      <Search label="Principal" name="principal" value={given.get("principal") ?? ""} />
      <Choice label="State" value={given.get("state") ?? ""} options={states} onChange={(state) => change({ state, after: null })} />
    </>
  );
}

function NoActor() {
  return <Empty title="Nothing is under way">This tenant does nothing on the server that answered, or had no time to say what.</Empty>;
}

export function Builds({ path }: { path: string }) {
  const given = parameters.value;
  const [after, principal, state] = ["after", "principal", "state"].map((key) => given.get(key) ?? "");
  const query = { limit: PAGE, after, principal, state };
  const list = useLive(`builds ${path} ${JSON.stringify(query)}`, SECONDS, (signal) => get<BuildLinesAnswer>(`${path}/builds`, query, signal));
  const [chosen, setChosen] = useState<Set<string>>(new Set());
  const [asking, setAsking] = useState<"chosen" | "filter" | null>(null);
  const act = useAct();
  const found = list.value;
  const here = (found?.builds ?? []).map(({ build_id }) => build_id).filter((id) => id !== null);
  const marked = here.filter((id) => chosen.has(id));
  useEffect(() => setChosen(new Set()), [after, principal, state]);
  const filtered = principal !== "" || state === "waiting" || state === "building";
  const stop = async () => {
    const body = asking === "chosen" ? { build_ids: marked } : filtered ? { ...(principal ? { principal } : {}), ...(state ? { state } : {}) } : { all: true };
    setAsking(null);
    await act.run(async () => {
      const done = await ask<StoppedAnswer>("POST", `${path}/builds/stop`, JSON.stringify(body));
      return `${plural(done.stopped, "build")} of ${count(done.chosen)} ended.`;
    });
    setChosen(new Set());
    list.again();
  };
  const turn = (id: string) => {
    const next = new Set(chosen);
    if (!next.delete(id)) next.add(id);
    setChosen(next);
  };
  const what = asking === "chosen" ? plural(marked.length, "build") : filtered ? "the builds of this filter" : "all builds";
  return (
    <>
      <div class="bar">
        <Filters states={BUILDS} />
        <button type="button" class="danger" disabled={act.busy || marked.length === 0} onClick={() => setAsking("chosen")}>
          End the chosen
        </button>
        <button type="button" class="danger" disabled={act.busy || state === "committing" || state === "elsewhere"} onClick={() => setAsking("filter")}>
          {filtered ? "End all of this filter" : "End all"}
        </button>
      </div>
      <Told of={act} />
      {list.error && <Refusal error={list.error} again={list.again} />}
      {list.loading && <Waiting lines={6} />}
      {found && found.builds.length === 0 && (found.asked && (principal || state) ? <Empty title="No build matches" /> : <NoActor />)}
      {found && found.builds.length > 0 && (
        <div class="scroll" tabIndex={0} role="region" aria-label="Builds">
          <table class="wide">
            <thead>
              <tr>
                <th scope="col" class="tick">
                  <span class="unseen">Chosen</span>
                </th>
                <th scope="col">Build</th>
                <th scope="col" title="Waiting for a slot or memory, building, committing its whole result, or built by another server">
                  State
                </th>
                <th scope="col" title="Those who asked for it; it ends when none of them wants it any more">
                  Asked for by
                </th>
                <th scope="col" title="The tables that it reads, the snapshot of each, and the rule by which the first principal may read it">
                  Table, snapshot, rule
                </th>
                <th scope="col" class="number" title="Rows read so far, before filters, of those that the plan has">
                  Rows read
                </th>
                <th scope="col" class="number" title="Bytes of the result that are written so far">
                  Written
                </th>
                <th scope="col" class="number" title="Streams that are open on it now">
                  Readers
                </th>
              </tr>
            </thead>
            <tbody>
              {found.builds.map((one, at) => (
                <tr key={one.build_id ?? `waiting ${at}`}>
                  <td>{one.build_id && <input type="checkbox" aria-label={`Choose build ${one.build_id}`} checked={chosen.has(one.build_id)} onChange={() => turn(one.build_id ?? "")} />}</td>
                  <th scope="row">
                    <Result uri={one.artifact_uri}>{one.build_id ? <code>{one.build_id.slice(0, 12)}</code> : "not begun"}</Result>
                  </th>
                  <td>
                    <Badge kind={one.state === "waiting" ? "warn" : "good"}>{one.state}</Badge>
                    {one.waits_for && <span class="quiet"> for {one.waits_for}</span>}
                  </td>
                  <td>{one.principals.join(", ")}</td>
                  <td>
                    <Tables of={one} />
                  </td>
                  <td class="number">
                    {count(one.rows_done)}
                    {one.rows_planned > 0 && <span class="quiet"> of {count(one.rows_planned)}, {rate(one.progress)}</span>}
                  </td>
                  <td class="number">{bytes(one.bytes)}</td>
                  <td class="number">{count(one.readers)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      <Turn next={found?.next} />
      {asking && (
        <Confirm title="End builds" word="end" onYes={() => void stop()} onNo={() => setAsking(null)}>
          This ends {what}. Their readers' streams break off; the next request for a result builds it anew.
        </Confirm>
      )}
    </>
  );
}

function Tables({ of }: { of: BuildLineAnswer }) {
  if (of.tables.length === 0) return <span class="quiet">results only</span>;
  return (
    <ul>
      {of.tables.map((one) => (
        <li key={one.table}>
          {one.table.replace(/^tables\//, "")} {one.snapshot && <code title="Snapshot">{one.snapshot}</code>}{" "}
          <span class={one.allowed ? "quiet" : "denied"}>{one.rule}</span>
        </li>
      ))}
      {of.tables_cut && <li class="quiet">and further tables</li>}
    </ul>
  );
}

function Result({ uri, children }: { uri: string | null; children: ComponentChildren }) {
  const to = uri === null ? null : place(uri);
  return to ? <a href={to}>{children}</a> : <>{children}</>;
}

export function Streams({ path }: { path: string }) {
  const given = parameters.value;
  const query = { limit: PAGE, after: given.get("after"), principal: given.get("principal"), state: given.get("state") };
  const list = useLive(`streams ${path} ${JSON.stringify(query)}`, SECONDS, (signal) => get<StreamLinesAnswer>(`${path}/streams`, query, signal));
  const found = list.value;
  return (
    <>
      <div class="bar">
        <Filters states={STREAMS} />
      </div>
      {list.error && <Refusal error={list.error} again={list.again} />}
      {list.loading && <Waiting lines={6} />}
      {found && found.streams.length === 0 && (found.asked && (query.principal || query.state) ? <Empty title="No stream matches" /> : <NoActor />)}
      {found && found.streams.length > 0 && (
        <div class="scroll" tabIndex={0} role="region" aria-label="Streams">
          <table class="wide">
            <thead>
              <tr>
                <th scope="col">Stream</th>
                <th scope="col">Owner</th>
                <th scope="col" title="Unread streams wait for their reader; one that was read can be read again until it is forgotten">
                  State
                </th>
                <th scope="col">Result</th>
                <th scope="col" class="number" title="Then its address is forgotten; the result stays">
                  Forgotten in
                </th>
              </tr>
            </thead>
            <tbody>
              {found.streams.map((one) => (
                <tr key={one.stream_id}>
                  <th scope="row">
                    <code>{one.stream_id.slice(0, 12)}</code>
                  </th>
                  <td>{one.owner}</td>
                  <td>
                    <Badge kind={one.state === "unread" ? "warn" : "good"}>{one.state}</Badge>
                  </td>
                  <td>
                    <Result uri={one.artifact_uri}>{one.artifact_uri ? short(one.artifact_uri) : "—"}</Result>
                  </td>
                  <td class="number">{duration(one.seconds * 1000)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      <Turn next={found?.next} />
    </>
  );
}
