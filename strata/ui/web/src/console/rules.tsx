// The access rules: why one request is decided so, what a principal sees, and what a draft would change.
import { useId, useState } from "preact/hooks";
import { Told, useAct } from "../act";
import { ask } from "../api";
import { count, plural } from "../format";
import { Badge, Choice, Confirm, Empty, More, Refusal, usePages, Waiting } from "../parts";
import { change, href, parameters } from "../router";
import type { DraftAnswer, RulesAnswer, SeenTableAnswer, SeesAnswer } from "../types";
import { me } from "../who";
import { Access } from "./access";

const VIEWS: [string, string][] = [
  ["", "Why is a request decided so?"],
  ["sees", "What does a principal see?"],
  ["draft", "What would a draft change?"],
];

export function Rules() {
  const view = parameters.value.get("view") ?? "";
  return (
    <>
      <div class="bar">
        <Choice label="Question" value={view} options={VIEWS} onChange={(chosen) => change({ view: chosen })} />
      </div>
      {view === "sees" ? <Sees /> : view === "draft" ? <Draft /> : <Access />}
    </>
  );
}

function Sees() {
  const given = parameters.value;
  const ids = { principal: useId(), tenant: useId(), scopes: useId(), words: useId() };
  const text = (name: string) => given.get(name) ?? "";
  return (
    <>
      <form
        class="bar"
        onSubmit={(event) => {
          event.preventDefault();
          const fields = new FormData(event.currentTarget);
          const typed = (name: string) => String(fields.get(name) ?? "").trim();
          change({ principal: typed("principal"), who: typed("tenant"), scopes: typed("scopes"), q: typed("q") });
        }}
      >
        <div class="field grow">
          <label htmlFor={ids.principal}>Principal</label>
          <input id={ids.principal} name="principal" required defaultValue={text("principal")} autocomplete="off" />
        </div>
        <div class="field">
          <label htmlFor={ids.tenant}>Tenant</label>
          <input id={ids.tenant} name="tenant" defaultValue={given.get("who") ?? me.value?.tenant ?? ""} autocomplete="off" />
        </div>
        <div class="field">
          <label htmlFor={ids.scopes}>Scopes</label>
          <input id={ids.scopes} name="scopes" defaultValue={text("scopes")} autocomplete="off" />
        </div>
        <div class="field grow">
          <label htmlFor={ids.words}>Tables whose name has</label>
          <input id={ids.words} name="q" defaultValue={text("q")} autocomplete="off" />
        </div>
        <button type="submit" class="main">
          Show
        </button>
      </form>
      {text("principal") && <Seen principal={text("principal")} tenant={given.get("who") ?? ""} scopes={text("scopes")} words={text("q")} />}
    </>
  );
}

function Seen({ principal, tenant, scopes, words }: { principal: string; tenant: string; scopes: string; words: string }) {
  const list = usePages<SeenTableAnswer>(JSON.stringify([principal, tenant, scopes, words]), async (token, signal) => {
    const body = {
      principal,
      scopes: scopes.split(/\s+/).filter(Boolean),
      q: words,
      limit: 50,
      ...(tenant ? { tenant } : {}),
      ...(token ? { page_token: token } : {}),
    };
    const found = await ask<SeesAnswer>("POST", "/v1/admin/acl/sees", JSON.stringify(body), signal);
    return { items: found.tables, next: found.next_page_token };
  });
  return (
    <>
      {list.error && <Refusal error={list.error} again={list.again} />}
      {list.loading && <Waiting />}
      {list.value && list.items.length === 0 && <Empty title={`${principal} sees no table${words ? " of such a name" : ""}`} />}
      {list.items.length > 0 && (
        <div class="scroll" tabIndex={0} role="region" aria-label={`What ${principal} sees`}>
          <table class="wide">
            <thead>
              <tr>
                <th scope="col">Table</th>
                <th scope="col">By which rule</th>
                <th scope="col">How much</th>
              </tr>
            </thead>
            <tbody>
              {list.items.map((one) => (
                <tr key={one.resource}>
                  <th scope="row">
                    <a href={href("table", { uri: one.uri })}>{one.uri}</a>
                  </th>
                  <td>
                    <a href={href("console", { tab: "access", principal, who: tenant, scopes, resource: one.resource })}>{one.rule}</a>
                  </td>
                  <td>{one.partial ? <Badge kind="warn">some columns or rows</Badge> : <Badge kind="good">all of it</Badge>}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      <More list={list} />
    </>
  );
}

const KINDS: Record<string, [string, string]> = {
  opened: ["warn", "opened"],
  closed: ["bad", "closed"],
  narrowed: ["warn", "other columns or rows"],
};

function Draft() {
  const id = useId();
  const [text, setText] = useState("");
  const [answer, setAnswer] = useState<DraftAnswer | null>(null);
  const [loading, setLoading] = useState(false);
  const act = useAct();
  const compare = async () => {
    setAnswer(null);
    await act.run(async () => {
      setAnswer(await ask<DraftAnswer>("POST", "/v1/admin/acl/draft", JSON.stringify({ rules: text })));
      return "";
    });
  };
  const load = async () => {
    setLoading(false);
    await act.run(async () => {
      const done = await ask<RulesAnswer>("POST", "/v1/admin/acl/reload");
      return done.changed ? `The file's rules are in force: ${count(done.deny)} deny, ${count(done.allow)} allow.` : "The file's rules were in force already.";
    });
  };
  return (
    <>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void compare();
        }}
      >
        <div class="field">
          <label htmlFor={id}>The draft, as in the file of rules (TOML). It is compared, and not loaded.</label>
          <textarea
            id={id}
            rows={12}
            required
            maxLength={1_000_000}
            spellcheck={false}
            value={text}
            placeholder={'default = "deny"\n\n[[allow]]\nprincipal = "*@example.com"\nresource = "tables/main/sales/*"'}
            onInput={(event) => setText(event.currentTarget.value)}
          />
        </div>
        <p class="buttons left">
          <button type="submit" class="main" disabled={act.busy}>
            Compare with the rules in force
          </button>
          <button type="button" disabled={act.busy} onClick={() => setLoading(true)}>
            Load the file of rules
          </button>
        </p>
      </form>
      <Told of={act} />
      {act.error?.problems.map((problem) => (
        <p key={problem} class="note">
          {problem}
        </p>
      ))}
      <div role="status">{answer && <Changes of={answer} />}</div>
      {loading && (
        <Confirm title="Load the rules" word="load" onYes={() => void load()} onNo={() => setLoading(false)}>
          The server reads its own file of rules again, not the draft above; with a fault in it the present rules stay.
        </Confirm>
      )}
    </>
  );
}

function Changes({ of }: { of: DraftAnswer }) {
  return (
    <section class="card">
      <h2>
        {of.changes.length === 0 && of.complete ? "It decides every request as the rules in force do" : plural(of.changes.length, "change")}
        <span class="count">
          {count(of.deny)} deny, {count(of.allow)} allow, else {of.default}
        </span>
      </h2>
      {!of.complete && <p class="note">There may be more: the search was ended after {plural(of.changes.length, "change")}.</p>}
      {of.warnings.map((warning) => (
        <p key={warning} class="note">
          {warning}
        </p>
      ))}
      {of.changes.length > 0 && (
        <div class="scroll" tabIndex={0} role="region" aria-label="Changes">
          <table class="wide">
            <thead>
              <tr>
                <th scope="col">Change</th>
                <th scope="col" title="Names that no rule has stand for any other one; they begin with any">
                  Who
                </th>
                <th scope="col">Wants to</th>
                <th scope="col">Now</th>
                <th scope="col">Then</th>
              </tr>
            </thead>
            <tbody>
              {of.changes.map((one) => (
                <tr key={`${one.principal} ${one.resource}`}>
                  <td>
                    <Badge kind={KINDS[one.kind]?.[0] ?? ""}>{KINDS[one.kind]?.[1] ?? one.kind}</Badge>
                  </td>
                  <th scope="row">
                    {one.principal} <span class="quiet">of {one.tenant}{one.scopes.length > 0 && `, with ${one.scopes.join(" ")}`}</span>
                  </th>
                  <td>
                    {one.action} <code>{one.resource}</code>
                  </td>
                  <td>{one.now}</td>
                  <td>{one.then}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}
