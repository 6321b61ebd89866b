// Who the caller is to the server, what that caller may do and uses, and what would be refused.
import { get } from "../api";
import { bytes, count, rate } from "../format";
import { Limits } from "../limits";
import { Badge, Code, Facts, Show, useLoaded } from "../parts";
import type { MeAnswer } from "../types";

const ROLES: Record<string, string> = {
  token: "proves that the proxy sent the request",
  principal: "names you",
  scopes: "lists what you may do besides reading",
  tenant: "names your team",
  tenant_alias: "is another name of the tenant's header",
};

export function Me() {
  const loaded = useLoaded("me", (signal) => get<MeAnswer>("/v1/me", {}, signal));
  return (
    <>
      <div class="head">
        <h1>Me</h1>
        <p class="quiet">Who this server takes you for, as your proxy states it.</p>
      </div>
      <Show of={loaded} lines={10}>
        {(me) => <Found me={me} />}
      </Show>
    </>
  );
}

function Found({ me }: { me: MeAnswer }) {
  const report = [
    `principal: ${me.principal}`,
    `tenant: ${me.tenant} (${me.state})`,
    `scopes: ${me.scopes.join(" ") || "none"}`,
    ...me.headers.map(({ name, role, seen }) => `${name} (${role}): ${seen ? "sent" : "not sent"}`),
    ...me.checks.filter(({ allowed }) => !allowed).map(({ what, status, detail }) => `refused: ${what}: ${status} ${detail ?? ""}`),
  ].join("\n");
  return (
    <>
      <section class="card">
        <h2>Identity</h2>
        <Facts
          of={[
            ["Principal", <code>{me.principal}</code>, "Rules about you name this"],
            ["Tenant", <code>{me.tenant}</code>, "Your team: its results, limits and cache are its own"],
            ["Tenant's state", me.state],
            [
              "Scopes",
              me.scopes.length ? me.scopes.map((scope) => <Badge key={scope}>{scope}</Badge>) : "none",
              "What you may do besides reading",
            ],
            ["Operator", me.operator ? "yes" : "no", "Whether you may act on other tenants"],
          ]}
        />
        <table>
          <caption>Headers that your proxy has to send</caption>
          <thead>
            <tr>
              <th scope="col">Header</th>
              <th scope="col">What it does</th>
              <th scope="col">Here</th>
            </tr>
          </thead>
          <tbody>
            {me.headers.map(({ name, role, seen }) => (
              <tr key={name}>
                <td>
                  <code>{name}</code>
                </td>
                <td>{ROLES[role] ?? role}</td>
                <td>{seen ? <Badge kind="good">sent</Badge> : <Badge>not sent</Badge>}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </section>
      <section class="card">
        <h2>In use now</h2>
        {me.usage ? (
          <Facts
            of={[
              ...me.usage.slots.map(
                ({ tier, used, total, waiting }): [string, string, string] => [
                  `${tier} slots`,
                  `${count(used)} of ${count(total)}${waiting ? `, ${count(waiting)} waiting` : ""}`,
                  "Builds at the same time, of the whole tenant",
                ],
              ),
              ["Builds under way", count(me.usage.in_flight.length)],
              ...(me.storage
                ? ([
                    ["Results kept", count(me.storage.results)],
                    ["Bytes kept", bytes(me.storage.stored_bytes)],
                  ] as [string, string][])
                : []),
              ...(me.usage.cache
                ? ([
                    ["Cache", `${bytes(me.usage.cache.size_bytes)} of ${bytes(me.usage.cache.max_size_bytes)}`],
                    ["Cache hits", rate(me.usage.cache.hit_rate), "Of all row groups that were read, the share that the cache had"],
                  ] as [string, string, string?][])
                : []),
            ]}
          />
        ) : (
          <p class="quiet">Nothing: no request of your team has been served since the server started.</p>
        )}
      </section>
      <section class="card">
        <h2>What you may do</h2>
        <ul class="checks">
          {me.checks.map(({ what, allowed, status, detail }) => (
            <li key={what} class={allowed ? "yes" : "no"}>
              <span class="mark" aria-hidden="true">
                {allowed ? "✓" : "✕"}
              </span>
              <span>
                <span class="unseen">{allowed ? "Allowed: " : "Refused: "}</span>
                {what}
                {detail && (
                  <span class="quiet">
                    {" "}
                    {status}: {detail}
                  </span>
                )}
              </span>
            </li>
          ))}
        </ul>
      </section>
      <section class="card">
        <h2>For your administrator</h2>
        <p class="quiet">If something is refused that you need, send this. It holds no secret.</p>
        <Code name="report" text={report} />
      </section>
      <section class="card">
        <h2>Limits</h2>
        <Limits limits={me.limits} />
      </section>
    </>
  );
}
