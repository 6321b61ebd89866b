// The columns of a table, how its files are divided, and the profile of a column.
import { get } from "../api";
import { Badge, useLoaded } from "../parts";
import { Profile, SQL } from "../pages/profile";
import { change, parameters } from "../router";
import { typeText } from "../schema";
import type { Field } from "../schema";
import type { TableAnswer, TransformListAnswer } from "../types";

export function Schema({ table, fields, old }: { table: TableAnswer; fields: Field[]; old: boolean }) {
  const names = new Map(fields.map(({ id, path }) => [id, path]));
  const transforms = useLoaded("transforms", (signal) => get<TransformListAnswer>("/v1/transforms", {}, signal));
  const counts = !old && (transforms.value?.transforms.some(({ ref }) => ref === SQL) ?? false);
  const chosen = counts ? fields.find(({ name, depth }) => depth === 0 && name === parameters.value.get("profile")) : undefined;
  return (
    <>
      <div class="scroll" tabIndex={0} role="region" aria-label="Columns">
        <table class="wide">
          <thead>
            <tr>
              <th scope="col" class="number">
                Id
              </th>
              <th scope="col">Column</th>
              <th scope="col">Type</th>
              <th scope="col">Null</th>
              <th scope="col">Documentation</th>
              {counts && <th scope="col">Profile</th>}
            </tr>
          </thead>
          <tbody>
            {fields.map(({ id, name, type, required, doc, depth, path, initial }) => (
              <tr key={`${id} ${path}`}>
                <td class="number quiet">{id}</td>
                <th scope="row" class={`depth-${Math.min(depth, 6)}`}>
                  <code>{name}</code>
                </th>
                <td>
                  <code>{typeText(type)}</code>
                </td>
                <td>{required ? <Badge>required</Badge> : <span class="quiet">may be null</span>}</td>
                <td>
                  {doc ?? ""}
                  {initial !== undefined && <span class="quiet"> Default: {JSON.stringify(initial)}</span>}
                </td>
                {counts && (
                  <td>
                    {depth === 0 && (
                      <button
                        type="button"
                        class="small"
                        aria-label={`Profile of ${name}`}
                        aria-expanded={chosen?.name === name}
                        onClick={() => change({ profile: chosen?.name === name ? null : name })}
                      >
                        {chosen?.name === name ? "Hide" : "Show"}
                      </button>
                    )}
                  </td>
                )}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {chosen && <Profile key={chosen.name} uri={table.uri} column={chosen.name} type={typeText(chosen.type)} />}
      {old && parameters.value.get("profile") && <p class="note">Profiles are of the current version only.</p>}
      <div class="columns">
        <section>
          <h2>Partitioning</h2>
          {table.partition_spec.length === 0 ? (
            <p class="quiet">Not partitioned.</p>
          ) : (
            <ul>
              {table.partition_spec.map((one) => (
                <li key={String(one["field-id"])}>
                  <code>{String(one["transform"])}</code> of <code>{names.get(Number(one["source-id"])) ?? "a column that is gone"}</code>
                  <span class="quiet"> as {String(one["name"])}</span>
                </li>
              ))}
            </ul>
          )}
        </section>
        <section>
          <h2>Order</h2>
          {table.sort_order.length === 0 ? (
            <p class="quiet">No order is promised.</p>
          ) : (
            <ul>
              {table.sort_order.map((one, at) => (
                <li key={at}>
                  <code>{names.get(Number(one["source-id"])) ?? "a column that is gone"}</code> {String(one["direction"] ?? "")}
                </li>
              ))}
            </ul>
          )}
        </section>
        <section>
          <h2>Properties</h2>
          {Object.keys(table.properties).length === 0 ? (
            <p class="quiet">None.</p>
          ) : (
            <ul>
              {Object.entries(table.properties).map(([key, value]) => (
                <li key={key}>
                  <code>{key}</code> = <code>{value}</code>
                </li>
              ))}
            </ul>
          )}
        </section>
      </div>
      <p class="quiet">
        Iceberg format {table.format_version}, table <code>{table.uuid}</code>.
      </p>
    </>
  );
}
