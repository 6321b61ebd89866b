// The servers of one metadata database, and whether they are of one mind.
import { get } from "../api";
import { useLive } from "../live";
import { Badge, Empty, Show, Time } from "../parts";
import type { ServerListAnswer } from "../types";

const SECONDS = 10;

export function Servers() {
  const list = useLive("servers", SECONDS, (signal) => get<ServerListAnswer>("/v1/admin/servers", {}, signal));
  return (
    <Show of={list}>
      {({ servers }) =>
        servers.length === 0 ? (
          <Empty title="One server alone">It shares its metadata database with no other one, so there are no replicas to look at.</Empty>
        ) : (
          <>
            {new Set(servers.map((one) => one.config_version)).size > 1 && <p class="note">Not all servers have the same settings.</p>}
            {new Set(servers.map((one) => one.policy_version)).size > 1 && <p class="note">Not all servers have the same access rules.</p>}
            <div class="scroll" tabIndex={0} role="region" aria-label="Servers">
              <table class="wide">
                <thead>
                  <tr>
                    <th scope="col">Server</th>
                    <th scope="col">State</th>
                    <th scope="col">Version</th>
                    <th scope="col" title="When it last renewed its lease; without one, others take over what it did">
                      Seen
                    </th>
                    <th scope="col">Started</th>
                    <th scope="col" title="A digest: equal ones are equal settings, secrets left aside">
                      Settings
                    </th>
                    <th scope="col" title="A digest: equal ones are equal access rules">
                      Rules
                    </th>
                  </tr>
                </thead>
                <tbody>
                  {servers.map((one) => (
                    <tr key={one.server_id}>
                      <th scope="row">
                        {one.name} {one.this_server && <Badge>this one</Badge>}
                      </th>
                      <td>
                        <Badge kind={one.state === "ready" || one.state === "live" ? "good" : "warn"}>{one.state}</Badge>
                      </td>
                      <td>{one.version}</td>
                      <td>
                        <Time at={one.seen_at} />
                      </td>
                      <td>
                        <Time at={one.started_at} />
                      </td>
                      <td>
                        <code>{one.config_version.slice(0, 10)}</code>
                      </td>
                      <td>
                        <code>{one.policy_version?.slice(0, 10) ?? "none"}</code>
                      </td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          </>
        )
      }
    </Show>
  );
}
