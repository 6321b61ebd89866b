// Who may see what, and by which rule.
import { useId, useState } from "preact/hooks";
import { ask } from "../api";
import type { ApiError } from "../api";
import { count } from "../format";
import { Badge, known, Refusal } from "../parts";
import { change, parameters } from "../router";
import type { AccessAnswer } from "../types";
import { me } from "../who";

const ACTIONS = ["read", "run", "write", "delete", "admin"];

export function Access() {
  const given = parameters.value;
  const ids = { principal: useId(), tenant: useId(), scopes: useId(), resource: useId(), action: useId() };
  const [answer, setAnswer] = useState<AccessAnswer | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const [busy, setBusy] = useState(false);
  const submit = async (form: HTMLFormElement) => {
    const fields = new FormData(form);
    const text = (name: string) => String(fields.get(name) ?? "").trim();
    change({ principal: text("principal"), resource: text("resource"), action: text("action"), scopes: text("scopes"), who: text("tenant") });
    setBusy(true);
    setError(null);
    try {
      const body = {
        principal: text("principal"),
        resource: text("resource"),
        action: text("action"),
        scopes: text("scopes").split(/\s+/).filter(Boolean),
        ...(text("tenant") ? { tenant: text("tenant") } : {}),
      };
      setAnswer(await ask<AccessAnswer>("POST", "/v1/admin/acl/explain", JSON.stringify(body)));
    } catch (refused) {
      setAnswer(null);
      setError(known(refused));
    } finally {
      setBusy(false);
    }
  };
  return (
    <>
      <form
        class="bar"
        onSubmit={(event) => {
          event.preventDefault();
          void submit(event.currentTarget);
        }}
      >
        <div class="field grow">
          <label htmlFor={ids.principal}>Principal</label>
          <input id={ids.principal} name="principal" required defaultValue={given.get("principal") ?? ""} autocomplete="off" />
        </div>
        <div class="field">
          <label htmlFor={ids.tenant}>Tenant</label>
          <input id={ids.tenant} name="tenant" defaultValue={given.get("who") ?? me.value?.tenant ?? ""} autocomplete="off" />
        </div>
        <div class="field">
          <label htmlFor={ids.scopes}>Scopes</label>
          <input id={ids.scopes} name="scopes" defaultValue={given.get("scopes") ?? ""} autocomplete="off" />
        </div>
        <div class="field">
          <label htmlFor={ids.action}>Wants to</label>
          <select id={ids.action} name="action">
            {ACTIONS.map((one) => (
              <option key={one} value={one} selected={one === (given.get("action") ?? "read")}>
                {one}
              </option>
            ))}
          </select>
        </div>
        <div class="field grow">
          <label htmlFor={ids.resource}>Resource</label>
          <input
            id={ids.resource}
            name="resource"
            required
            placeholder="tables/catalog/namespace/table"
            defaultValue={given.get("resource") ?? ""}
            autocomplete="off"
          />
        </div>
        <button type="submit" class="main" disabled={busy}>
          Explain
        </button>
      </form>
      {error && <Refusal error={error} />}
      <div role="status">
        {answer && (
          <section class="card">
            <h2>
              <Badge kind={answer.allowed ? "good" : "bad"}>{answer.allowed ? "allowed" : "denied"}</Badge> {answer.reason}
            </h2>
            {answer.partial && <p class="quiet">A part of the table: its other columns or rows are not for this principal.</p>}
            {answer.considered.length === 0 ? (
              <p class="quiet">No rule names this principal and this resource; what holds is the default.</p>
            ) : (
              <table>
                <caption>
                  Rules that come near it, of {count(answer.rules)} in all
                </caption>
                <thead>
                  <tr>
                    <th scope="col">Rule</th>
                    <th scope="col">Principal</th>
                    <th scope="col">Resource</th>
                    <th scope="col">Matches</th>
                  </tr>
                </thead>
                <tbody>
                  {answer.considered.map((rule) => (
                    <tr key={`${rule.effect} ${rule.number}`}>
                      <th scope="row">
                        <Badge kind={rule.effect === "deny" ? "bad" : "good"}>{rule.effect}</Badge> {rule.number}
                      </th>
                      <td>
                        <code>{rule.principal}</code>
                      </td>
                      <td>
                        <code>{rule.resource}</code>
                      </td>
                      <td>{rule.matches ? "yes" : `no: ${rule.misses.join(", ")}`}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            )}
            {answer.otherwise && (
              <p>
                It would be {answer.otherwise.allowed ? "allowed" : "denied"}
                {answer.otherwise.remove.length > 0 && ` without ${answer.otherwise.remove.join(" and ")}`}
                {answer.otherwise.add.map((rule) => (
                  <>
                    {" "}
                    with the rule <code>{`${rule.effect} ${rule.principal} ${rule.resource}`}</code>
                  </>
                ))}
                .
              </p>
            )}
          </section>
        )}
      </div>
    </>
  );
}
