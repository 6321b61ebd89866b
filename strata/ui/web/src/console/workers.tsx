// The workers that run cells of notebooks: their health, what they run, and their switches.
import { useState } from "preact/hooks";
import { Told, useAct } from "../act";
import { ask, get } from "../api";
import { count, duration, plural } from "../format";
import { useLive } from "../live";
import { Badge, Confirm, Empty, Facts, Show, Time } from "../parts";
import type { WorkerAnswer, WorkersAnswer } from "../types";

const SECONDS = 10;
const PATH = "/v1/admin/notebook-workers";

type Way = "enable" | "drain" | "disable";

export function Workers() {
  const list = useLive("workers", SECONDS, (signal) => get<WorkersAnswer>(PATH, {}, signal));
  const [asked, setAsked] = useState<[string, Way] | null>(null);
  const act = useAct();
  const turn = async (name: string, way: Way) => {
    setAsked(null);
    const path = `${PATH}/${encodeURIComponent(name)}`;
    await act.run(async () => {
      if (way === "drain") await ask("POST", `${path}/drain`);
      else await ask("PATCH", path, JSON.stringify({ enabled: way === "enable" }));
      return { enable: `${name} takes cells again.`, drain: `${name} ends its cells and takes no further ones.`, disable: `${name} is disabled.` }[way];
    });
    list.again();
  };
  const look = async (name: string) => {
    await act.run(async () => {
      await ask("POST", `${PATH}/${encodeURIComponent(name)}/refresh`);
      return `${name} was asked how it is.`;
    });
    list.again();
  };
  return (
    <>
      <Told of={act} />
      <Show of={list}>
        {({ workers }) =>
          workers.length === 0 ? (
            <Empty title="No workers are configured">Cells of notebooks need one; see the settings under notebook_workers.</Empty>
          ) : (
            <>
              {workers.map((one) => (
                <section key={one.name} class="card">
                  <h2>
                    {one.name} <Badge kind={one.health === "healthy" ? "good" : one.health === "unavailable" ? "bad" : "warn"}>{one.health}</Badge>{" "}
                    <Badge kind={one.state === "enabled" ? "good" : "warn"}>{one.state}</Badge>
                  </h2>
                  <Worker of={one} />
                  <p class="buttons left">
                    {one.state !== "enabled" && (
                      <button type="button" disabled={act.busy} aria-label={`Enable ${one.name}`} onClick={() => void turn(one.name, "enable")}>
                        Enable
                      </button>
                    )}
                    {one.state === "enabled" && (
                      <button type="button" class="danger" disabled={act.busy} aria-label={`Drain ${one.name}`} onClick={() => setAsked([one.name, "drain"])}>
                        Drain
                      </button>
                    )}
                    {one.state !== "disabled" && (
                      <button type="button" class="danger" disabled={act.busy} aria-label={`Disable ${one.name}`} onClick={() => setAsked([one.name, "disable"])}>
                        Disable
                      </button>
                    )}
                    <button type="button" disabled={act.busy} aria-label={`Look at ${one.name} now`} onClick={() => void look(one.name)}>
                      Look now
                    </button>
                  </p>
                </section>
              ))}
            </>
          )
        }
      </Show>
      {asked && (
        <Confirm title={asked[1] === "drain" ? "Drain the worker" : "Disable the worker"} word={asked[0]} onYes={() => void turn(...asked)} onNo={() => setAsked(null)}>
          {asked[1] === "drain" ? "Cells under way end by themselves; no further ones are taken, on all servers." : "Cells under way are interrupted, on all servers."}
        </Confirm>
      )}
    </>
  );
}

function Worker({ of }: { of: WorkerAnswer }) {
  return (
    <>
      <Facts
        of={[
          ["Cells now", `${count(of.running)} of ${count(of.max_concurrent)}`, "Cells that run on it now, of those that it may run at a time: of this server"],
          ["A tenant at most", count(of.max_concurrent_per_tenant), "Cells of one tenant at a time"],
          ["Environment", of.runtime_id ? <code>{of.runtime_id}</code> : "—", "Its packages, as it states them: results of one environment are not taken for those of another"],
          ["Looks", `${count(of.healthy_probe_count)} of ${count(of.probe_count)} well`, "How often it was asked how it is, and was well"],
          ["Last look", <Time at={of.health_checked_at} />, of.last_probe_duration_ms === null ? "When it was last asked" : `It took ${duration(of.last_probe_duration_ms)}`],
          ["Failures in a row", count(of.consecutive_failures), "Looks since the last one that was well"],
        ]}
      />
      {of.last_error && <p class="note">{of.last_error}</p>}
      {of.tenants && <p class="quiet">For {plural(of.tenants.length, "tenant")}: {of.tenants.slice(0, 20).join(", ")}</p>}
      {Object.keys(of.allowances).length > 0 && (
        <p class="quiet">
          Changed here:{" "}
          {Object.entries(of.allowances)
            .slice(0, 20)
            .map(([tenant, cells]) => `${tenant} ${plural(cells, "cell")}`)
            .join(", ")}
        </p>
      )}
    </>
  );
}
