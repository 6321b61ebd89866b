// Changes of protected aliases that wait for a second person.
import { Told, useAct } from "../act";
import { ask, get } from "../api";
import { Badge, Empty, More, Refusal, Time, usePages, Waiting } from "../parts";
import { place, short } from "../pages/results";
import { has } from "../rights";
import { href } from "../router";
import type { PendingItem, PendingListAnswer } from "../types";
import { me } from "../who";

const PAGE = 50;

export function Approvals() {
  const act = useAct();
  const list = usePages<PendingItem>("pending", async (token, signal) => {
    const found = await get<PendingListAnswer>("/v1/registry/pending", { limit: PAGE, page_token: token }, signal);
    return { items: found.pending, next: found.next_page_token };
  });
  const decide = async (one: PendingItem, way: "approve" | "reject") => {
    // The result that was seen is sent along: another one that was asked for since is not decided on.
    const body = JSON.stringify({ name: one.name, alias: one.alias, artifact_id: one.artifact_id, version: one.version });
    const what = `${one.name}@${one.alias}`;
    await act.run(async () => {
      await ask("POST", way === "approve" ? "/v1/registry/pending/approve" : "/v1/registry/pending/reject", body);
      return way === "approve" ? `${what} is changed.` : `The change of ${what} is rejected.`;
    });
    list.again();
  };
  const decides = has("admin:registry");
  const own = (one: PendingItem) => one.requested_by === me.value?.principal && !has("admin:*");
  return (
    <>
      <p class="quiet">
        A protected alias is changed when a second person with the scope <code>admin:registry</code> approves.
        {!decides && " You see what waits; others decide."}
      </p>
      <Told of={act} />
      {list.error && <Refusal error={list.error} again={list.again} />}
      {list.loading && <Waiting />}
      {list.value && list.items.length === 0 && <Empty title="Nothing waits for approval" />}
      {list.items.length > 0 && (
        <div class="scroll" tabIndex={0} role="region" aria-label="Changes that wait">
          <table class="wide">
            <thead>
              <tr>
                <th scope="col">Alias</th>
                <th scope="col">Change</th>
                <th scope="col">Asked for by</th>
                <th scope="col">When</th>
                {decides && <th scope="col">Decide</th>}
              </tr>
            </thead>
            <tbody>
              {list.items.map((one) => {
                const uri = `strata://artifact/${one.artifact_id}@v=${one.version}`;
                return (
                  <tr key={`${one.name}@${one.alias}`}>
                    <th scope="row">
                      <a href={href("name", { name: one.name })}>{one.name}</a> <Badge>{one.alias}</Badge>
                    </th>
                    <td>
                      {one.action === "delete" ? "removed from " : "set to "}
                      <a href={place(uri) ?? "results"}>{short(uri)}</a>
                    </td>
                    <td>{one.requested_by}</td>
                    <td class="nowrap">
                      <Time at={one.requested_at} />
                    </td>
                    {decides && (
                      <td>
                        <p class="buttons left">
                          {own(one) ? (
                            <span class="quiet">you asked: a second person approves</span>
                          ) : (
                            <button type="button" class="small" disabled={act.busy} aria-label={`Approve ${one.name}@${one.alias}`} onClick={() => void decide(one, "approve")}>
                              Approve
                            </button>
                          )}
                          <button type="button" class="small danger" disabled={act.busy} aria-label={`Reject ${one.name}@${one.alias}`} onClick={() => void decide(one, "reject")}>
                            Reject
                          </button>
                        </p>
                      </td>
                    )}
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
