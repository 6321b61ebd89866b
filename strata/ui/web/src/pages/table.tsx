// One table: exact rows, schema, snapshots, branches and tags, and the same as code.
import { useMemo } from "preact/hooks";
import { get } from "../api";
import { bytes, count, time } from "../format";
import { Choice, Facts, Panel, Show, Tabs, Time, useLoaded } from "../parts";
import { change, href, parameters } from "../router";
import type { RefListAnswer, TableAnswer } from "../types";
import { fieldsOf, types } from "../schema";
import { Schema } from "../table/schema";
import { Refs, Snapshots } from "../table/versions";
import { Preview } from "./preview";

export function Table() {
  const uri = parameters.value.get("uri") ?? "";
  const tab = parameters.value.get("tab") ?? "rows";
  const ref = parameters.value.get("ref");
  const snapshot = parameters.value.get("snapshot_id");
  const query = { uri, ref, snapshot_id: snapshot };
  const table = useLoaded(JSON.stringify(query), (signal) => get<TableAnswer>("/v1/tables/describe", query, signal));
  const refs = useLoaded(uri, (signal) => get<RefListAnswer>("/v1/tables/refs", { uri, limit: 200 }, signal));
  const versions: [string, string][] = [
    ["", "Current"],
    ...(refs.value?.refs ?? [])
      .filter(({ name }) => name !== "main")
      .map(({ name, type }): [string, string] => [`ref ${name}`, `${type === "tag" ? "Tag" : "Branch"} ${name}`]),
  ];
  const chosen = snapshot ? `snapshot ${snapshot}` : ref ? `ref ${ref}` : "";
  if (chosen && !versions.some(([key]) => key === chosen)) {
    versions.push([chosen, snapshot ? `Snapshot ${snapshot}` : (ref ?? "")]);
  }
  return (
    <>
      <nav class="crumbs" aria-label="Where this is">
        <a href="data">Data</a>
        {table.value && (
          <>
            <span aria-hidden="true">/</span>
            <a href={href("data", { catalog: table.value.catalog })}>{table.value.catalog}</a>
            <span aria-hidden="true">/</span>
            <a href={href("data", { catalog: table.value.catalog, namespace: table.value.namespace.join(".") })}>
              {table.value.namespace.join(".")}
            </a>
          </>
        )}
      </nav>
      <div class="head">
        <h1>{table.value?.name ?? uri}</h1>
        <Choice
          label="Version"
          value={chosen}
          options={versions}
          onChange={(value) => {
            const [kind, ...rest] = value.split(" ");
            const name = rest.join(" ");
            change(
              { ref: kind === "ref" ? name : null, snapshot_id: kind === "snapshot" ? name : null },
              { replace: false },
            );
          }}
        />
      </div>
      <Show of={table} lines={10}>
        {(found) => <Found table={found} tab={tab} scan={{ ref, snapshot }} />}
      </Show>
    </>
  );
}

function Found({
  table,
  tab,
  scan,
}: {
  table: TableAnswer;
  tab: string;
  scan: { ref: string | null; snapshot: string | null };
}) {
  const fields = useMemo(() => fieldsOf(table.schema), [table]);
  const doc = typeof table.properties["comment"] === "string" ? table.properties["comment"] : null;
  return (
    <>
      {doc && <p class="doc">{doc}</p>}
      {table.restricted && (
        <p class="note">
          You may read a part of this table: columns, or rows, that are not for you are left out of everything here.
        </p>
      )}
      <Facts
        of={[
          ["Rows", table.rows === null ? <span class="quiet">not counted</span> : count(table.rows), "Not counted where rows are deleted by delete files"],
          ["Size", bytes(table.bytes), "Bytes of its data files"],
          ["Data files", count(table.files)],
          ["Columns", count(fields.filter(({ depth }) => depth === 0).length)],
          ["Last changed", <Time at={table.last_updated} />, time(table.last_updated)],
          ["Snapshot", table.snapshot_id ? <code>{table.snapshot_id}</code> : "none yet"],
        ]}
      />
      <Tabs
        chosen={tab}
        tabs={[
          ["rows", "Rows"],
          ["schema", "Schema"],
          ["snapshots", "Snapshots"],
          ["refs", "Branches and tags"],
        ]}
      />
      <Panel of={tab}>
        {tab === "rows" && <Preview uri={table.uri} types={types(table.schema)} version={scan} />}
        {tab === "schema" && <Schema table={table} fields={fields} old={scan.ref !== null || scan.snapshot !== null} />}
        {tab === "snapshots" && <Snapshots uri={table.uri} current={table.snapshot_id} />}
        {tab === "refs" && <Refs uri={table.uri} />}
      </Panel>
    </>
  );
}
