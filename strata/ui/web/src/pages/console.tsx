// For administrators: tenants as they are now, the cache, who may see what, and what was done.
import { Audit } from "../console/audit";
import { Cache } from "../console/cache";
import { Reads } from "../console/reads";
import { Rules } from "../console/rules";
import { Servers } from "../console/servers";
import { Tenants } from "../console/tenants";
import { Workers } from "../console/workers";
import { Empty, Panel, Tabs, Waiting } from "../parts";
import { has } from "../rights";
import { parameters } from "../router";
import { me } from "../who";

const TABS: [string, string, string][] = [
  ["tenants", "Tenants", "admin:tenants"],
  ["access", "Who may see what", "admin:acl"],
  ["cache", "Cache", "admin:cache"],
  ["workers", "Workers", "admin:workers"],
  ["servers", "Servers", "admin:*"],
  ["audit", "What was done", "admin:tenants"],
  ["reads", "What was read", "admin:tenants"],
];

export function Console() {
  const allowed = TABS.filter(([, , scope]) => has(scope));
  const wanted = parameters.value.get("tab") ?? "";
  const tab = allowed.some(([key]) => key === wanted) ? wanted : (allowed[0]?.[0] ?? "");
  return (
    <>
      <div class="head">
        <h1>Console</h1>
        <p class="quiet">What your scopes let you see and do. Lists are read while this page is in sight, and not otherwise.</p>
      </div>
      {me.value === null ? (
        <Waiting />
      ) : allowed.length === 0 ? (
        <Empty title="Nothing here is for you">
          This needs a scope such as <code>admin:tenants</code>; <a href="me">your identity</a> shows which you have.
        </Empty>
      ) : (
        <>
          <Tabs chosen={tab} tabs={allowed.map(([key, label]): [string, string] => [key, label])} />
          <Panel of={tab}>
            {tab === "tenants" && <Tenants />}
            {tab === "access" && <Rules />}
            {tab === "workers" && <Workers />}
            {tab === "servers" && <Servers />}
            {tab === "reads" && <Reads />}
            {tab === "cache" && <Cache />}
            {tab === "audit" && <Audit />}
          </Panel>
        </>
      )}
    </>
  );
}
