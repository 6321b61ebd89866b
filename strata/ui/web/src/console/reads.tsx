// Who read which tables and results, by which rule.
import { get } from "../api";
import { bytes, count } from "../format";
import { Badge, Empty, More, Search, Show, Time, usePages } from "../parts";
import { place, short } from "../pages/results";
import { has } from "../rights";
import { parameters } from "../router";
import type { AccessLineAnswer, AccessListAnswer } from "../types";
import { me } from "../who";

const PAGE = 50;

export function Reads() {
  const given = parameters.value;
  const tenant = given.get("who") ?? "";
  const principal = given.get("principal") ?? "";
  const list = usePages<AccessLineAnswer>(`${tenant}\n${principal}`, async (token, signal) => {
    const found = await get<AccessListAnswer>("/v1/admin/access-audit", { limit: PAGE, before: token, tenant, principal }, signal);
    return { items: found.entries, next: found.next === null ? null : String(found.next) };
  });
  return (
    <>
      <div class="bar">
        {has("admin:*") && <Search label={`Tenant (empty: ${me.value?.tenant ?? "your own"})`} name="who" value={tenant} />}
        <Search label="Principal" name="principal" value={principal} />
      </div>
      <Show of={list}>
        {() =>
          list.items.length === 0 ? (
            <Empty title="No read is recorded">
              Reads are recorded where the limit <code>access_audit</code> is on.
            </Empty>
          ) : (
            <>
              <div class="scroll" tabIndex={0} role="region" aria-label="Reads">
                <table class="wide">
                  <thead>
                    <tr>
                      <th scope="col">When</th>
                      <th scope="col">Who</th>
                      <th scope="col">What</th>
                      <th scope="col">Outcome</th>
                      <th scope="col">Tables, by which rule</th>
                      <th scope="col" class="number">
                        Rows
                      </th>
                      <th scope="col" class="number" title="Bytes that the server itself sent">
                        Sent
                      </th>
                    </tr>
                  </thead>
                  <tbody>
                    {list.items.map((one) => (
                      <tr key={one.id}>
                        <td class="nowrap">
                          <Time at={one.at} />
                        </td>
                        <td>{one.principal}</td>
                        <td>
                          {one.action}
                          {one.artifact_uri && (
                            <>
                              {" "}
                              <a href={place(one.artifact_uri) ?? "results"}>{short(one.artifact_uri)}</a>
                            </>
                          )}
                        </td>
                        <td>
                          <Badge kind={one.outcome === "ok" || one.outcome === "read" ? "good" : "warn"}>{one.outcome}</Badge>
                        </td>
                        <td>
                          <ul>
                            {one.tables.map((table) => (
                              <li key={table.table}>
                                {table.table.replace(/^tables\//, "")} <span class={table.allowed ? "quiet" : "denied"}>{table.rule}</span>
                              </li>
                            ))}
                            {one.tables_cut && <li class="quiet">and further tables</li>}
                          </ul>
                        </td>
                        <td class="number">{count(one.rows)}</td>
                        <td class="number">{bytes(one.bytes)}</td>
                      </tr>
                    ))}
                  </tbody>
                </table>
              </div>
              <More list={list} />
            </>
          )
        }
      </Show>
    </>
  );
}
