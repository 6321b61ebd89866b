// Tenants as they are now; those chosen are drained or restarted together.
import { useState } from "preact/hooks";
import { Told, useAct } from "../act";
import { ask, get } from "../api";
import { count, plural } from "../format";
import { useLive } from "../live";
import { Badge, Confirm, Empty, Refusal, Time, Waiting } from "../parts";
import { href, parameters } from "../router";
import type { TenantListAnswer, TenantSummary } from "../types";
import { Turn } from "./work";

const PAGE = 50;
const SECONDS = 5;

export function TenantState({ of }: { of: Pick<TenantSummary, "state" | "enabled" | "drained"> }) {
  if (!of.enabled) return <Badge kind="bad">disabled</Badge>;
  if (of.drained) return <Badge kind="warn">drained</Badge>;
  return <Badge kind={of.state === "running" ? "good" : of.state === "absent" ? "" : "warn"}>{of.state}</Badge>;
}

export function Tenants() {
  const after = parameters.value.get("after") ?? "";
  const list = useLive(`tenants ${after}`, SECONDS, (signal) =>
    get<TenantListAnswer>("/v1/admin/tenants", { limit: PAGE, after }, signal),
  );
  const [chosen, setChosen] = useState<Set<string>>(new Set());
  const [asking, setAsking] = useState<"drain" | "restart" | null>(null);
  const act = useAct();
  const here = list.value?.tenants ?? [];
  const marked = here.filter(({ tenant }) => chosen.has(tenant)).map(({ tenant }) => tenant);
  const turn = (ids: string[], on: boolean) => {
    const next = new Set(chosen);
    for (const id of ids) on ? next.add(id) : next.delete(id);
    setChosen(next);
  };
  const all = async (way: "drain" | "restart") => {
    setAsking(null);
    await act.run(async () => {
      for (const id of marked) {
        await ask("POST", way === "drain" ? `/v1/admin/tenants/${encodeURIComponent(id)}/drain` : `/v1/admin/tenants/${encodeURIComponent(id)}/restart`);
      }
      return `${plural(marked.length, "tenant")} ${way === "drain" ? "drained" : "restarted"}.`;
    });
    setChosen(new Set());
    list.again();
  };
  return (
    <>
      <div class="bar">
        <button type="button" class="small" disabled={here.length === 0} onClick={() => turn(here.map(({ tenant }) => tenant), marked.length < here.length)}>
          {marked.length < here.length || here.length === 0 ? "Choose all of this page" : "Choose none"}
        </button>
        <button type="button" class="small danger" disabled={act.busy || marked.length === 0} onClick={() => setAsking("drain")}>
          Drain the chosen
        </button>
        <button type="button" class="small danger" disabled={act.busy || marked.length === 0} onClick={() => setAsking("restart")}>
          Restart the chosen
        </button>
      </div>
      <Told of={act} />
      {list.error && <Refusal error={list.error} again={list.again} />}
      {list.loading && <Waiting lines={6} />}
      {list.value && list.value.tenants.length === 0 && <Empty title="No tenant has sent a request yet" />}
      {list.value && list.value.tenants.length > 0 && (
        <div class="scroll" tabIndex={0} role="region" aria-label="Tenants">
          <table class="wide">
            <thead>
              <tr>
                <th scope="col" class="tick">
                  <span class="unseen">Chosen</span>
                </th>
                <th scope="col">Tenant</th>
                <th scope="col">State</th>
                <th scope="col" class="number" title="Requests that wait for a slot of this tenant">
                  Waiting
                </th>
                <th scope="col" class="number" title="Messages that its actor has not taken yet">
                  Queued
                </th>
                <th scope="col" class="number" title="How often its actor was started anew after a crash">
                  Restarts
                </th>
                <th scope="col">Live since</th>
              </tr>
            </thead>
            <tbody>
              {list.value.tenants.map((one) => (
                <tr key={one.tenant}>
                  <td>
                    <input
                      type="checkbox"
                      aria-label={`Choose ${one.tenant}`}
                      checked={chosen.has(one.tenant)}
                      onChange={(event) => turn([one.tenant], event.currentTarget.checked)}
                    />
                  </td>
                  <th scope="row">
                    <a href={href("tenant", { id: one.tenant })}>{one.tenant}</a>
                  </th>
                  <td>
                    <TenantState of={one} />
                  </td>
                  <td class="number">{count(one.waiting_callers)}</td>
                  <td class="number">{count(one.queued_questions)}</td>
                  <td class="number">{count(one.restarts)}</td>
                  <td>
                    <Time at={one.live_since} />
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      <Turn next={list.value?.next} />
      {asking && (
        <Confirm title={asking === "drain" ? "Drain" : "Restart"} word={asking} onYes={() => void all(asking)} onNo={() => setAsking(null)}>
          {asking === "drain"
            ? `${plural(marked.length, "tenant")} will take no new work on this server until restarted; what is under way ends.`
            : `What ${plural(marked.length, "tenant")} now do ends, and they take work again.`}
        </Confirm>
      )}
    </>
  );
}
