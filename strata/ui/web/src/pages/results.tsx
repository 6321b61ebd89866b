// The results of the caller's team, and the names that point at them.
import { get } from "../api";
import { bytes, count, plural } from "../format";
import { Badge, Choice, Empty, Facts, More, Panel, Refusal, Search, Tabs, Time, useLoaded, usePages, Waiting } from "../parts";
import { change, href, parameters } from "../router";
import { Approvals } from "../registry/approvals";
import { Names } from "../registry/names";
import { Tagged } from "../registry/tagged";
import type { ArtifactAnswer, ArtifactListAnswer, StatsAnswer } from "../types";

const PAGE = 50;
const STATES: [string, string][] = [
  ["", "All states"],
  ["ready", "Ready"],
  ["building", "Building"],
  ["failed", "Failed"],
];
const SORTS: [string, string][] = [
  ["", "Newest first"],
  ["created_at asc", "Oldest first"],
  ["byte_size desc", "Largest first"],
];

export function Results() {
  const tab = parameters.value.get("tab") ?? "results";
  const stats = useLoaded("stats", (signal) => get<StatsAnswer>("/v1/artifacts/stats", {}, signal));
  return (
    <>
      <div class="head">
        <h1>Results</h1>
        <p class="quiet">What your team has asked for and the server keeps, so that asking again costs nothing.</p>
      </div>
      {stats.value && (
        <Facts
          of={[
            ["Results", count(stats.value.total_artifacts)],
            ["Size", bytes(stats.value.total_bytes)],
            ...Object.entries(stats.value.by_state).map(([state, number]): [string, string] => [state, count(number)]),
          ]}
        />
      )}
      <Tabs
        chosen={tab}
        tabs={[
          ["results", "All results"],
          ["names", "Names"],
          ["tags", "Tags"],
          ["approvals", "Approvals"],
        ]}
      />
      <Panel of={tab}>{tab === "names" ? <Names /> : tab === "tags" ? <Tagged /> : tab === "approvals" ? <Approvals /> : <All />}</Panel>
    </>
  );
}

/** Say in a few words what a result was made by, and of what. */
export function madeBy(one: Pick<ArtifactAnswer, "transform_spec" | "input_versions">): { what: string; of: string[] } {
  try {
    const spec = JSON.parse(one.transform_spec) as { executor?: string; params?: Record<string, unknown> };
    const inputs = Object.keys(JSON.parse(one.input_versions) as Record<string, string>);
    const query = spec.params?.["sql"];
    if (typeof query === "string") return { what: query.replace(/\s+/g, " "), of: inputs };
    const params = spec.params ?? {};
    const parts: string[] = [];
    if (Array.isArray(params["columns"])) parts.push(plural(params["columns"].length, "column"));
    if (Array.isArray(params["filters"]) && params["filters"].length) parts.push(plural(params["filters"].length, "filter"));
    if (params["limit"]) parts.push(`at most ${count(Number(params["limit"]))} rows`);
    if (params["ref"]) parts.push(`at ${String(params["ref"])}`);
    if (params["snapshot_id"]) parts.push(`snapshot ${String(params["snapshot_id"])}`);
    if (params["as_of"]) parts.push("as of a time");
    const scan = spec.executor === "scan@v1" ? "scan" : (spec.executor ?? "");
    return { what: parts.length ? `${scan}: ${parts.join(", ")}` : scan, of: inputs };
  } catch {
    return { what: "—", of: [] };
  }
}

export function State({ of }: { of: string }) {
  return <Badge kind={of === "ready" ? "good" : of === "failed" ? "bad" : "warn"}>{of}</Badge>;
}

function All() {
  const given = parameters.value;
  const state = given.get("state") ?? "";
  const order = given.get("order") ?? "";
  const prefix = given.get("name") ?? "";
  const [sort, direction] = order.split(" ");
  const list = usePages<ArtifactAnswer>(`${state}\n${order}\n${prefix}`, async (token, signal) => {
    const query = { limit: PAGE, state, name_prefix: prefix, sort, order: direction, page_token: token };
    const found = await get<ArtifactListAnswer>("/v1/artifacts", query, signal);
    return { items: found.artifacts, next: found.next_page_token, total: found.total_count };
  });
  return (
    <>
      <div class="bar">
        <Search label="Name begins with" name="name" value={prefix} />
        <Choice label="State" value={state} options={STATES} onChange={(value) => change({ state: value })} />
        <Choice label="Order" value={order} options={SORTS} onChange={(value) => change({ order: value })} />
        <p class="result quiet" role="status">
          {list.total !== null && plural(list.total, "result")}
        </p>
      </div>
      {list.error && <Refusal error={list.error} again={list.again} />}
      {list.loading && <Waiting lines={10} />}
      {list.value && list.items.length === 0 && (
        <Empty title={state || prefix ? "No result matches" : "There is no result yet"}>
          {state || prefix ? (
            <a href="results">Show all results</a>
          ) : (
            <>
              Every scan leaves one: look at the rows of <a href="data">a table</a>.
            </>
          )}
        </Empty>
      )}
      {list.items.length > 0 && (
        <div class="scroll" tabIndex={0} role="region" aria-label="Results">
          <table class="wide">
            <thead>
              <tr>
                <th scope="col">Made of</th>
                <th scope="col">By</th>
                <th scope="col">State</th>
                <th scope="col" class="number">
                  Rows
                </th>
                <th scope="col" class="number">
                  Size
                </th>
                <th scope="col">When</th>
              </tr>
            </thead>
            <tbody>
              {list.items.map((one) => {
                const { what, of } = madeBy(one);
                return (
                  <tr key={`${one.artifact_id} ${one.version}`}>
                    <th scope="row" class="clip">
                      <a href={href("result", { id: one.artifact_id, version: one.version })}>
                        {of.map(short).join(", ") || one.artifact_id}
                      </a>
                      {one.version > 1 && <span class="quiet"> v{one.version}</span>}
                    </th>
                    <td class="clip quiet" title={what}>
                      {what}
                    </td>
                    <td>
                      <State of={one.state} />
                    </td>
                    <td class="number">{count(one.row_count)}</td>
                    <td class="number">{bytes(one.byte_size)}</td>
                    <td class="nowrap">
                      <Time at={one.created_at} />
                    </td>
                  </tr>
                );
              })}
            </tbody>
          </table>
        </div>
      )}
      <More list={list} />
    </>
  );
}

/** Return an input's name without the long ids of results. */
export function short(uri: string): string {
  const found = /^strata:\/\/artifact\/([0-9a-f]{8})[0-9a-f]*@v=(\d+)$/.exec(uri);
  return found ? `result ${found[1]}… v${found[2]}` : uri;
}

/** Return the address of the page of a table or a result by its URI; null if there is none. */
export function place(uri: string): string | null {
  const found = /^strata:\/\/artifact\/([^@]+)@v=(\d+)$/.exec(uri);
  if (found) return href("result", { id: found[1], version: found[2] });
  return uri.startsWith("strata:") || uri.startsWith("redacted") ? null : href("table", { uri });
}
