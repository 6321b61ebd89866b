// What was done, and by whom.
import { get } from "../api";
import { Empty, More, Show, Time, usePages } from "../parts";
import type { AuditAnswer, AuditListAnswer } from "../types";

const PAGE = 50;

export function Audit() {
  const list = usePages<AuditAnswer>("audit", async (token, signal) => {
    const found = await get<AuditListAnswer>("/v1/admin/audit", { limit: PAGE, before: token }, signal);
    return { items: found.entries, next: found.next === null ? null : String(found.next) };
  });
  return (
    <Show of={list}>
      {() =>
        list.items.length === 0 ? (
          <Empty title="Nothing was done yet">Changes of limits, names and tenants are kept here, with who made them.</Empty>
        ) : (
          <>
            <div class="scroll" tabIndex={0} role="region" aria-label="Audit">
              <table class="wide">
                <thead>
                  <tr>
                    <th scope="col">When</th>
                    <th scope="col">Who</th>
                    <th scope="col">What</th>
                    <th scope="col">Tenant</th>
                    <th scope="col">Changed</th>
                  </tr>
                </thead>
                <tbody>
                  {list.items.map((one) => (
                    <tr key={one.id}>
                      <td class="nowrap">
                        <Time at={one.at} />
                      </td>
                      <td>{one.principal ?? <span class="quiet">not shown</span>}</td>
                      <td>{one.action}</td>
                      <td>{one.tenant ?? "—"}</td>
                      <td>
                        {one.old && <code>{JSON.stringify(one.old)}</code>}
                        {one.old && one.new && " → "}
                        {one.new && <code>{JSON.stringify(one.new)}</code>}
                      </td>
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
  );
}
