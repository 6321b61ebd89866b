// One tenant, for administrators: what it does now, its limits, and what can be done to it.
import { useState } from "preact/hooks";
import { Told, useAct } from "../act";
import { ask, get } from "../api";
import type { ApiError } from "../api";
import { bytes, count, rate } from "../format";
import { Limits } from "../limits";
import { useLive } from "../live";
import { Confirm, Facts, known, Panel, Refusal, Tabs, Time, Waiting } from "../parts";
import { parameters } from "../router";
import type { ActAnswer, TenantAnswer, TenantLimitsAnswer } from "../types";
import { TenantState } from "../console/tenants";
import { Builds, Streams } from "../console/work";

const ACTS: [string, string, string][] = [
  ["evict", "Evict", "What it does now ends; its next request starts it again."],
  ["restart", "Restart", "What it does now ends; it is started again, and a drain ends."],
  ["drain", "Drain", "It takes no new work on this server until it is restarted; what is under way ends."],
  ["disable", "Disable", "Its requests are answered with 403 from now on, on every server, until it is enabled."],
  ["enable", "Enable", "Its requests are served again."],
];

export function Tenant() {
  const id = parameters.value.get("id") ?? "";
  const path = `/v1/admin/tenants/${encodeURIComponent(id)}`;
  const tenant = useLive(path, 5, (signal) => get<TenantAnswer>(path, {}, signal));
  const [asked, setAsked] = useState<[string, string, string] | null>(null);
  const [told, setTold] = useState("");
  const [error, setError] = useState<ApiError | null>(null);
  const act = async (name: string) => {
    setAsked(null);
    setError(null);
    try {
      const done = await ask<ActAnswer>("POST", `${path}/${name}`);
      setTold(`${done.action}: ${done.changed ? "done" : "it was so already"}. The tenant is ${done.state}.`);
      tenant.again();
    } catch (refused) {
      setError(known(refused));
    }
  };
  const limit = useAct();
  const change = async (name: string, text: string) => {
    const done = await limit.run(async () => {
      // The digits as they were typed: not through a number of the browser's.
      await ask<TenantLimitsAnswer>("PATCH", `${path}/limits`, `{${JSON.stringify(name)}: ${text === "" ? "null" : text}}`);
      return text === "" ? `${name} is that of the configuration again.` : `${name} is ${text}.`;
    });
    if (done) tenant.again();
    return done;
  };
  const tab = parameters.value.get("tab") ?? "now";
  const found = tenant.value;
  return (
    <>
      <nav class="crumbs" aria-label="Where this is">
        <a href="console">Console</a>
        <span aria-hidden="true">/</span>
        <a href="console?tab=tenants">Tenants</a>
      </nav>
      <div class="head">
        <h1>{id}</h1>
        {found && <TenantState of={found} />}
      </div>
      {(tenant.error ?? error) && <Refusal error={(error ?? tenant.error) as ApiError} again={tenant.again} />}
      {tenant.loading && <Waiting lines={10} />}
      <Tabs
        chosen={tab}
        tabs={[
          ["now", "Now"],
          ["builds", "Builds"],
          ["streams", "Streams"],
          ["limits", "Limits"],
        ]}
      />
      <Panel of={tab}>
      {tab === "builds" && <Builds path={path} />}
      {tab === "streams" && <Streams path={path} />}
      {tab === "limits" && found && (
        <>
          <Told of={limit} />
          <Limits limits={found.limits} change={change} />
        </>
      )}
      {tab === "now" && found && (
        <>
          <section class="card">
            <h2>Now</h2>
            <Facts
              of={[
                ["Live since", <Time at={found.live_since} />, "When its actor was started"],
                ["Waiting", count(found.waiting_callers), "Requests that wait for a slot"],
                ["Queued", count(found.queued_questions), "Messages that its actor has not taken yet"],
                ["Restarts", count(found.restarts), "After crashes"],
                ...(found.usage?.slots ?? []).map(({ tier, used, total, waiting }): [string, string, string] => [
                  `${tier} slots`,
                  `${count(used)} of ${count(total)}${waiting ? `, ${count(waiting)} waiting` : ""}`,
                  "Builds at the same time",
                ]),
                ["Streams not read", count(found.usage?.streams_waiting ?? null), "Results that were asked for as a stream that nobody has read"],
                ["Builds", count(found.usage?.in_flight.length ?? null), "Builds under way, those that wait for a slot too"],
                ["Results", `${count(found.artifacts.total_artifacts)}, ${bytes(found.artifacts.total_bytes)}`, "All that are kept, and their bytes"],
                ...(found.usage?.cache
                  ? ([
                      ["Cache", bytes(found.usage.cache.size_bytes), "Bytes of row groups that are kept on disk"],
                      ["Cache hits", rate(found.usage.cache.hit_rate), "Of all row groups that were read, the share that the cache had"],
                    ] as [string, string, string][])
                  : []),
              ]}
            />
          </section>
          <section class="card">
            <h2>Last errors</h2>
            {found.last_errors.length === 0 ? (
              <p class="quiet">None since it is live.</p>
            ) : (
              <ul>
                {found.last_errors.map((one, at) => (
                  <li key={at}>
                    <Time at={one.at} /> <code>{one.code}</code> {one.what}
                  </li>
                ))}
              </ul>
            )}
          </section>
          <section class="card">
            <h2>What can be done</h2>
            <p class="buttons left">
              {ACTS.filter(([name]) => (name === "enable" ? !found.enabled : name === "disable" ? found.enabled : true)).map((one) => (
                <button key={one[0]} type="button" class={one[0] === "enable" ? "" : "danger"} onClick={() => setAsked(one)}>
                  {one[1]}
                </button>
              ))}
            </p>
            <p role="status" class="quiet">
              {told}
            </p>
          </section>
        </>
      )}
      </Panel>
      {asked && (
        <Confirm title={asked[1]} word={id} onYes={() => void act(asked[0])} onNo={() => setAsked(null)}>
          {asked[2]}
        </Confirm>
      )}
    </>
  );
}
