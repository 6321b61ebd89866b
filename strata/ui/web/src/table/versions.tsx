// The versions of a table: its snapshots, with what each changed, its branches and its tags.
import { get } from "../api";
import { bytes, count } from "../format";
import { Badge, Empty, More, Show, Time, useLoaded, usePages } from "../parts";
import { href } from "../router";
import type { RefListAnswer, SnapshotAnswer, SnapshotListAnswer } from "../types";

const PAGE = 50;

const CHANGES: [string, string, string][] = [
  ["added-records", "+", "rows"],
  ["deleted-records", "−", "rows"],
  ["added-data-files", "+", "files"],
  ["deleted-data-files", "−", "files"],
  ["added-delete-files", "+", "delete files"],
];

function changed(one: SnapshotAnswer, before: SnapshotAnswer | undefined): string {
  const summary = one.summary ?? {};
  const deletes = (of: SnapshotAnswer) => Number(of.summary?.["total-position-deletes"] ?? 0);
  const removed = before ? deletes(one) - deletes(before) : 0;
  const parts = CHANGES.filter(([key]) => Number(summary[key] ?? 0) > 0).map(
    ([key, sign, noun]) => `${sign}${count(summary[key])} ${noun}`,
  );
  if (removed > 0) parts.push(`−${count(removed)} rows, by delete files`);
  return parts.join(", ") || "—";
}

export function Snapshots({ uri, current }: { uri: string; current: string | null }) {
  const list = usePages<SnapshotAnswer>(uri, async (token, signal) => {
    const found = await get<SnapshotListAnswer>("/v1/tables/snapshots", { uri, limit: PAGE, page_token: token }, signal);
    return { items: found.snapshots, next: found.next_page_token };
  });
  return (
    <Show of={list} lines={8}>
      {() =>
        list.items.length === 0 ? (
          <Empty title="Nothing has been written yet" />
        ) : (
          <>
            <div class="scroll" tabIndex={0} role="region" aria-label="Snapshots">
              <table class="wide">
                <thead>
                  <tr>
                    <th scope="col">When</th>
                    <th scope="col">What</th>
                    <th scope="col">Changed</th>
                    <th scope="col" class="number">
                      Rows after
                    </th>
                    <th scope="col" class="number">
                      Size after
                    </th>
                    <th scope="col">Snapshot</th>
                  </tr>
                </thead>
                <tbody>
                  {list.items.map((one) => {
                    const summary = one.summary ?? {};
                    return (
                      <tr key={one.snapshot_id}>
                        <td>
                          <Time at={one.timestamp} />
                        </td>
                        <td>
                          <Badge kind={`op-${summary["operation"] ?? ""}`}>{summary["operation"] ?? "unknown"}</Badge>
                        </td>
                        <td>{changed(one, list.items.find(({ snapshot_id }) => snapshot_id === one.parent_id))}</td>
                        <td
                          class="number"
                          title={
                            Number(summary["total-position-deletes"] ?? 0) + Number(summary["total-equality-deletes"] ?? 0) > 0
                              ? "Rows of the data files, before those that delete files remove"
                              : undefined
                          }
                        >
                          {count(summary["total-records"])}
                          {Number(summary["total-position-deletes"] ?? 0) > 0 && (
                            <span class="quiet"> − {count(summary["total-position-deletes"])}</span>
                          )}
                        </td>
                        <td class="number">{bytes(summary["total-files-size"])}</td>
                        <td>
                          <a href={href("table", { uri, snapshot_id: one.snapshot_id, tab: "rows" })}>
                            <code>{one.snapshot_id}</code>
                          </a>{" "}
                          {one.snapshot_id === current && <Badge kind="good">shown</Badge>}
                        </td>
                      </tr>
                    );
                  })}
                </tbody>
              </table>
            </div>
            <More list={list} />
          </>
        )
      }
    </Show>
  );
}

export function Refs({ uri }: { uri: string }) {
  const loaded = useLoaded(uri, (signal) => get<RefListAnswer>("/v1/tables/refs", { uri, limit: 200 }, signal));
  return (
    <Show of={loaded}>
      {({ refs }) =>
        refs.length === 0 ? (
          <Empty title="No branches and no tags" />
        ) : (
          <div class="scroll" tabIndex={0} role="region" aria-label="Branches and tags">
            <table class="wide">
              <thead>
                <tr>
                  <th scope="col">Name</th>
                  <th scope="col">Kind</th>
                  <th scope="col">Snapshot</th>
                  <th scope="col">Kept</th>
                </tr>
              </thead>
              <tbody>
                {refs.map(({ name, type, snapshot_id, max_ref_age_ms }) => (
                  <tr key={name}>
                    <th scope="row">
                      <a href={href("table", { uri, ref: name, tab: "rows" })}>{name}</a>
                    </th>
                    <td>
                      <Badge>{type}</Badge>
                    </td>
                    <td>
                      <code>{snapshot_id}</code>
                    </td>
                    <td>{max_ref_age_ms === null ? "until it is removed" : `${count(max_ref_age_ms / 86_400_000)} days`}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )
      }
    </Show>
  );
}
