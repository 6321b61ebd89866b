// One result: its rows, what it was made of and what was made of it, why it is kept, and its bytes.
import type { ComponentChildren } from "preact";
import { useMemo } from "preact/hooks";
import { Told, useAct } from "../act";
import { get, url } from "../api";
import { ChartButton, ChartOfAddress } from "../chart/lazy";
import { bytes, count, duration, plural, time } from "../format";
import { read } from "../grid/arrow";
import { Grid } from "../grid/grid";
import { Graph } from "../graph/graph";
import type { Box } from "../graph/graph";
import { Code, Copy, Empty, Facts, Panel, Show, Tabs, Time, useLoaded } from "../parts";
import { PinsOf, TagsOf } from "../registry/labels";
import { href, parameters } from "../router";
import type { ArtifactAnswer, DependentsAnswer, HoldAnswer, LineageAnswer, NodeAnswer, WhyAnswer } from "../types";
import { madeBy, place, short, State } from "./results";

/** Formats that people use, with their file endings. */
const FORMATS = [
  ["arrow", "Arrow", "arrows"],
  ["parquet", "Parquet", "parquet"],
  ["csv", "CSV", "csv"],
] as const;

export function Result() {
  const id = parameters.value.get("id") ?? "";
  const version = parameters.value.get("version") ?? "1";
  const tab = parameters.value.get("tab") ?? "rows";
  const path = `/v1/artifacts/${encodeURIComponent(id)}/v/${encodeURIComponent(version)}`;
  const result = useLoaded(path, (signal) => get<ArtifactAnswer>(path, {}, signal));
  return (
    <>
      <nav class="crumbs" aria-label="Where this is">
        <a href="results">Results</a>
      </nav>
      {result.value === null && <h1>Result</h1>}
      <Show of={result} lines={10}>
        {(found) => {
          const made = madeBy(found);
          const ready = found.state === "ready";
          const data = `v1/artifacts/${found.artifact_id}/v/${found.version}/data`;
          return (
            <>
              <div class="head">
                <h1>
                  {made.of.map(short).join(", ") || found.artifact_id} {found.version > 1 && <span class="quiet">v{found.version}</span>}
                </h1>
                {ready && (
                  <p class="buttons downloads">
                    {FORMATS.map(([format, word, ending]) => (
                      <a key={format} class="button" href={url(data, { format, download: "true" }).href} download={`${found.artifact_id}.${ending}`}>
                        Download as {word}
                      </a>
                    ))}
                  </p>
                )}
              </div>
              <Facts
                of={[
                  ["State", <State of={found.state} />],
                  ["Rows", count(found.row_count)],
                  ["Size", bytes(found.byte_size)],
                  ["Made", <Time at={found.created_at} />, time(found.created_at)],
                ]}
              />
              <Tabs
                chosen={tab}
                tabs={[
                  ["rows", "Rows"],
                  ["origin", "Made of, and used by"],
                  ["labels", "Tags"],
                  ["kept", "Why it is kept"],
                  ["details", "Details"],
                ]}
              />
              <Panel of={tab}>
                {tab === "rows" && (ready ? <Rows path={data} of={found} /> : <Empty title={`This result is ${found.state}`}>It has no rows.</Empty>)}
                {tab === "origin" && <Origin path={path} self={`strata://artifact/${found.artifact_id}@v=${found.version}`} />}
                {tab === "labels" && <TagsOf path={path} />}
                {tab === "kept" && <Kept path={path} />}
                {tab === "details" && <Details of={found} />}
              </Panel>
            </>
          );
        }}
      </Show>
    </>
  );
}

function Rows({ path, of }: { path: string; of: ArtifactAnswer }) {
  const rows = useLoaded(path, (signal) => read(url(path), { signal }));
  return (
    <Show of={rows} lines={12}>
      {(found) => (
        <>
          <div class="bar">
            <ChartButton />
            <p class="result quiet" role="status">
              {plural(found.table.numRows, "row")} in {duration(found.milliseconds)}
              {found.cut && ` of ${count(of.row_count)}: the others are in the download`}
            </p>
          </div>
          <ChartOfAddress table={found.table} part={found.cut ? `Of the first ${plural(found.table.numRows, "row")} of ${count(of.row_count)}.` : undefined} />
          {found.table.numRows === 0 ? <Empty title="This result has no rows" /> : <Grid table={found.table} label="Rows of this result" />}
        </>
      )}
    </Show>
  );
}

function Origin({ path, self }: { path: string; self: string }) {
  const lineage = useLoaded(path, (signal) => get<LineageAnswer>(`${path}/lineage`, {}, signal));
  const used = useLoaded(path, (signal) => get<DependentsAnswer>(`${path}/dependents`, {}, signal));
  const list = (
    <div class="columns first">
      <section>
        <h2>Made of</h2>
        <Show of={lineage}>{(found) => <Tree lineage={found} uri={self} above={[self]} />}</Show>
      </section>
      <section>
        <h2>Used by</h2>
        <Show of={used}>
          {({ dependents }) =>
            dependents.length === 0 ? (
              <p class="quiet">No result that you may see was made of it.</p>
            ) : (
              <ul class="lineage">
                {dependents.map((one) => (
                  <li key={one.uri}>
                    <Node of={one} />
                  </li>
                ))}
              </ul>
            )
          }
        </Show>
      </section>
    </div>
  );
  return (
    <Show of={lineage}>
      {(found) => (
        <>
          {found.truncated && <p class="note">There is more behind this.</p>}
          <Show of={used}>{({ dependents }) => <Picture self={self} lineage={found} dependents={dependents} list={list} />}</Show>
        </>
      )}
    </Show>
  );
}

function Picture({ self, lineage, dependents, list }: { self: string; lineage: LineageAnswer; dependents: NodeAnswer[]; list: ComponentChildren }) {
  const { boxes, arrows } = useMemo(() => {
    const all = [...lineage.edges, ...dependents.map(({ uri }) => ({ from_uri: self, to_uri: uri }))];
    const pairs = new Map(all.map((edge) => [`${edge.from_uri} ${edge.to_uri}`, { from: edge.from_uri, to: edge.to_uri }]));
    const nodes = new Map([...lineage.nodes, ...dependents].map((node) => [node.uri, node]));
    const of = (uri: string) => [...pairs.values()].filter(({ to }) => to === uri).map(({ from }) => short(from));
    return {
      arrows: [...pairs.values()],
      boxes: [...nodes.values()].map((node): Box => {
        const here = node.uri === self;
        const what = node.transform_ref ?? (node.type === "artifact" ? "result" : node.type);
        const made = of(node.uri);
        return {
          id: node.uri,
          title: here ? "this result" : short(node.uri),
          lines: [what],
          label: `${here ? "This result" : short(node.uri)}, ${what}${made.length ? `, made of ${made.join(", ")}` : ""}`,
          kind: here ? "self" : "",
          href: here ? null : place(node.uri),
        };
      }),
    };
  }, [lineage, dependents, self]);
  return (
    <Graph label="What it was made of, and what was made of it" boxes={boxes} arrows={arrows} direction="LR">
      {list}
    </Graph>
  );
}

function Tree({ lineage, uri, above }: { lineage: LineageAnswer; uri: string; above: string[] }) {
  const inputs = lineage.edges.filter(({ to_uri }) => to_uri === uri).map(({ from_uri }) => from_uri);
  if (inputs.length === 0) return null;
  return (
    <ul class="lineage">
      {inputs.map((input) => {
        const node = lineage.nodes.find((one) => one.uri === input);
        return (
          <li key={input}>
            {node ? <Node of={node} /> : short(input)}
            {!above.includes(input) && <Tree lineage={lineage} uri={input} above={[...above, input]} />}
          </li>
        );
      })}
    </ul>
  );
}

function Node({ of }: { of: NodeAnswer }) {
  const to = of.type === "table" || of.type === "artifact" ? place(of.uri) : null;
  return (
    <>
      {to ? <a href={to}>{short(of.uri)}</a> : short(of.uri)}
      <span class="quiet">
        {" "}
        {of.transform_ref ?? of.type}
        {of.created_at && (
          <>
            {", "}
            <Time at={of.created_at} />
          </>
        )}
      </span>
    </>
  );
}

function Kept({ path }: { path: string }) {
  const act = useAct();
  const why = useLoaded(path, (signal) => get<WhyAnswer>(`${path}/why`, {}, signal));
  return (
    <>
    <Told of={act} />
    <Show of={why}>
      {(found) => (
        <>
          <Facts
            of={[
              ["Read now", found.in_use ? "yes" : "no"],
              ["Last used", <Time at={found.last_used_at} />, time(found.last_used_at)],
              ["May go", found.may_go_at ? <Time at={found.may_go_at} /> : "not while it is held", "From then on it may be removed for a quota or a full disk"],
              ["Goes", found.goes_at ? <Time at={found.goes_at} /> : "not by itself", "Then it is removed, unless it is used before"],
            ]}
          />
          {found.held_by.length === 0 ? (
            <p class="quiet">Nothing holds it: it stays while it is used. A name or a pin keeps it for good.</p>
          ) : (
            <ul aria-label="What holds it">
              {found.held_by.map((hold, at) => (
                <li key={at}>
                  <Hold of={hold} />
                </li>
              ))}
            </ul>
          )}
          <PinsOf path={path} holds={found.held_by} act={act} done={why.again} />
        </>
      )}
    </Show>
    </>
  );
}

const HOLDS: Record<string, string> = {
  pending: "a change of an alias that waits for approval",
  building: "a build of it that is under way",
  hidden: "something that you may not see",
};

function Hold({ of }: { of: HoldAnswer }) {
  const name = of.name && <a href={href("name", { name: of.name })}>{of.name}</a>;
  if (of.kind === "name") return <>Held by the name {name}</>;
  if (of.kind === "alias") return <>Held by the alias {of.alias} of {name}</>;
  if (of.kind === "pin") return <>Pinned: {of.reason}</>;
  if (of.kind === "input" && of.artifact_uri) return <>Held by <a href={place(of.artifact_uri) ?? "results"}>{short(of.artifact_uri)}</a>, which was made of it</>;
  return <>Held by {HOLDS[of.kind] ?? of.kind}</>;
}

function Details({ of }: { of: ArtifactAnswer }) {
  const uri = `strata://artifact/${of.artifact_id}@v=${of.version}`;
  const pretty = (text: string) => {
    try {
      return JSON.stringify(JSON.parse(text), null, 2);
    } catch {
      return text;
    }
  };
  return (
    <>
      <Facts
        of={[
          ["URI", <><code>{uri}</code> <Copy text={uri} /></>],
          ["SHA-256 of its bytes", <code>{of.content_sha256 ?? "—"}</code>],
          ["Key", <code>{of.provenance_hash}</code>, "Equal requests have an equal key, and share one result"],
        ]}
      />
      <h2>Request</h2>
      <Code name="request" text={pretty(of.transform_spec)} />
      <h2>Inputs and their versions</h2>
      <Code name="inputs" text={pretty(of.input_versions)} />
      {of.arrow_schema && (
        <>
          <h2>Columns</h2>
          <Code name="columns" text={of.arrow_schema} />
        </>
      )}
      <p class="quiet">
        In Python: <code>StrataClient(…).read("{uri}")</code>. See <a href={href("api", { q: "artifacts" })}>the API</a>.
      </p>
    </>
  );
}
