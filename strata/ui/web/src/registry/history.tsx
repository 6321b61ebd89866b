// What was done to a name, or to results: who, when, from what to what.
import { get } from "../api";
import { More, Show, Time, usePages } from "../parts";
import { place, short } from "../pages/results";
import type { EventItem, RegistryAuditAnswer } from "../types";

const PAGE = 20;

export function History({ name, turn }: { name: string; turn: number }) {
  const list = usePages<EventItem>(`${name} ${turn}`, async (token, signal) => {
    const found = await get<RegistryAuditAnswer>("/v1/registry/audit", { name, limit: PAGE, before: token }, signal);
    return { items: found.entries, next: found.next_before === null ? null : String(found.next_before) };
  });
  return (
    <Show of={list} lines={3}>
      {() =>
        list.items.length === 0 ? (
          <p class="quiet">Nothing yet.</p>
        ) : (
          <>
            <ul class="history" aria-label="History">
              {list.items.map((one) => (
                <li key={one.seq}>
                  <Time at={one.at} /> {one.actor}: <strong>{one.action.replaceAll("_", " ")}</strong>
                  {one.alias && <> of {one.alias}</>} <Moved of={one} />
                </li>
              ))}
            </ul>
            <More list={list} />
          </>
        )
      }
    </Show>
  );
}

function Moved({ of }: { of: EventItem }) {
  const before = of.from_artifact_id && of.from_version ? `strata://artifact/${of.from_artifact_id}@v=${of.from_version}` : null;
  const after = of.artifact_id && of.to_version ? `strata://artifact/${of.artifact_id}@v=${of.to_version}` : null;
  return (
    <span class="quiet">
      {before && <a href={place(before) ?? "results"}>{short(before)}</a>}
      {before && after && " → "}
      {after && <a href={place(after) ?? "results"}>{short(after)}</a>}
    </span>
  );
}
