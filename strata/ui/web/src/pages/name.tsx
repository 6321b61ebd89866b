// One name: what it points at and whether that is stale, its aliases, and what was done to it.
import { useId, useState } from "preact/hooks";
import { Told, useAct } from "../act";
import type { Act } from "../act";
import { ask, get } from "../api";
import { Badge, Confirm, Facts, Show, Time, useLoaded } from "../parts";
import { History } from "../registry/history";
import { parsed, written } from "../registry/paths";
import { writes } from "../rights";
import { go, parameters } from "../router";
import type { AliasItem, AliasListAnswer, AliasSetAnswer, NameStatusAnswer } from "../types";
import { place, short, State } from "./results";

export function Name() {
  const name = parameters.value.get("name") ?? "";
  const [turn, setTurn] = useState(0);
  const status = useLoaded(`status ${name}`, async (signal) => get<NameStatusAnswer>(`/v1/artifacts/names/${written(name)}/status`, {}, signal));
  // What is in sight stays until the new answer is there, and with it the sentence that tells what was done.
  const act = useAct();
  const again = () => {
    status.again();
    setTurn(turn + 1);
  };
  return (
    <>
      <nav class="crumbs" aria-label="Where this is">
        <a href="results">Results</a>
        <span aria-hidden="true">/</span>
        <a href="results?tab=names">Names</a>
      </nav>
      <div class="head">
        <h1>{name}</h1>
      </div>
      <Told of={act} />
      <Show of={status} lines={8}>
        {(found) => (
          <>
            <Status of={found} />
            <Aliases name={name} now={found.artifact_uri} act={act} again={again} />
            {writes() && <Move name={name} now={found.artifact_uri} act={act} again={again} />}
          </>
        )}
      </Show>
      <section class="card">
        <h2>What was done to it</h2>
        <History name={name} turn={turn} />
      </section>
    </>
  );
}

function Status({ of }: { of: NameStatusAnswer }) {
  return (
    <section class="card">
      <h2>{of.is_stale ? <Badge kind="warn">stale</Badge> : <Badge kind="good">current</Badge>} Points at</h2>
      <Facts
        of={[
          ["Result", <a href={place(of.artifact_uri) ?? "results"}>{short(of.artifact_uri)}</a>],
          ["State", <State of={of.state} />],
          ["Since", <Time at={of.updated_at} />, "When the name was pointed at it"],
        ]}
      />
      {of.is_stale ? (
        <>
          <p class="note">{of.stale_reason ?? "What it was made of has changed since."} Asked for again, it is made anew.</p>
          {of.changed_inputs.length > 0 && (
            <table>
              <caption>What has changed since it was made</caption>
              <thead>
                <tr>
                  <th scope="col">Input</th>
                  <th scope="col">Then</th>
                  <th scope="col">Now</th>
                </tr>
              </thead>
              <tbody>
                {of.changed_inputs.map((one) => {
                  const to = place(one.input_uri);
                  return (
                    <tr key={one.input_uri}>
                      <th scope="row">{to ? <a href={to}>{short(one.input_uri)}</a> : one.input_uri}</th>
                      <td>
                        <code>{one.old_version ?? "—"}</code>
                      </td>
                      <td>
                        <code>{one.new_version ?? "—"}</code>
                      </td>
                    </tr>
                  );
                })}
              </tbody>
            </table>
          )}
        </>
      ) : (
        <p class="quiet">What it was made of is as it was then: asked for again, it is the same result.</p>
      )}
    </section>
  );
}

function Aliases({ name, now, act, again }: { name: string; now: string; act: Act; again: () => void }) {
  const list = useLoaded(`aliases ${name}`, async (signal) => get<AliasListAnswer>(`/v1/names/${written(name)}/aliases`, {}, signal));
  const ids = { alias: useId(), result: useId() };
  const [alias, setAlias] = useState("");
  const [target, setTarget] = useState(now);
  const told = (done: AliasSetAnswer, what: string) =>
    done.status === "pending" ? `${what} waits for the approval of a second person: it is a protected alias.` : `${what} is ${done.status === "deleted" ? "removed" : "set"}.`;
  const set = async () => {
    const body = parsed(target);
    const done = await act.run(async () => {
      if (body === null) throw new Error("A result is written strata://artifact/<id>@v=<version>; its page has it under Details.");
      const path = `/v1/names/${written(name)}/aliases/${encodeURIComponent(alias.trim())}`;
      return told(await ask<AliasSetAnswer>("PUT", path, JSON.stringify(body)), alias.trim());
    });
    if (!done) return;
    setAlias("");
    list.again();
    again();
  };
  const remove = async (one: AliasItem) => {
    const path = `/v1/names/${written(name)}/aliases/${encodeURIComponent(one.alias)}`;
    await act.run(async () => told(await ask<AliasSetAnswer>("DELETE", path), one.alias));
    list.again();
    again();
  };
  return (
    <section class="card">
      <h2>Aliases</h2>
      <Show of={list} lines={2}>
        {({ aliases }) =>
          aliases.length === 0 ? (
            <p class="quiet">None. An alias, such as production, points at a result of its own.</p>
          ) : (
            <table>
              <thead>
                <tr>
                  <th scope="col">Alias</th>
                  <th scope="col">Points at</th>
                  <th scope="col">Since</th>
                  {writes() && <th scope="col">Change</th>}
                </tr>
              </thead>
              <tbody>
                {aliases.map((one) => {
                  const uri = `strata://artifact/${one.artifact_id}@v=${one.version}`;
                  return (
                    <tr key={one.alias}>
                      <th scope="row">{one.alias}</th>
                      <td>
                        <a href={place(uri) ?? "results"}>{short(uri)}</a> {uri === now && <Badge kind="good">as the name</Badge>}
                      </td>
                      <td>
                        <Time at={one.updated_at} />
                      </td>
                      {writes() && (
                        <td>
                          <button type="button" class="small danger" disabled={act.busy} aria-label={`Remove the alias ${one.alias}`} onClick={() => void remove(one)}>
                            Remove
                          </button>
                        </td>
                      )}
                    </tr>
                  );
                })}
              </tbody>
            </table>
          )
        }
      </Show>
      {writes() && (
        <form
          class="bar"
          onSubmit={(event) => {
            event.preventDefault();
            void set();
          }}
        >
          <div class="field">
            <label htmlFor={ids.alias}>Alias</label>
            <input id={ids.alias} value={alias} required maxLength={128} autocomplete="off" onInput={(event) => setAlias(event.currentTarget.value)} />
          </div>
          <div class="field grow">
            <label htmlFor={ids.result}>Points at</label>
            <input id={ids.result} value={target} required autocomplete="off" spellcheck={false} onInput={(event) => setTarget(event.currentTarget.value)} />
          </div>
          <button type="submit" disabled={act.busy}>
            Set the alias
          </button>
        </form>
      )}
    </section>
  );
}

function Move({ name, now, act, again }: { name: string; now: string; act: Act; again: () => void }) {
  const id = useId();
  const [target, setTarget] = useState(now);
  const [removing, setRemoving] = useState(false);
  const move = async () => {
    const body = parsed(target);
    const done = await act.run(async () => {
      if (body === null) throw new Error("A result is written strata://artifact/<id>@v=<version>; its page has it under Details.");
      await ask("POST", "/v1/names", JSON.stringify({ name, ...body }));
      return `${name} points at ${short(target.trim())}.`;
    });
    if (done) again();
  };
  const remove = async () => {
    setRemoving(false);
    const done = await act.run(async () => {
      await ask("DELETE", `/v1/names/${written(name)}`);
      return "";
    });
    if (done) go("results?tab=names");
  };
  return (
    <section class="card">
      <h2>Move or remove it</h2>
      <form
        class="bar"
        onSubmit={(event) => {
          event.preventDefault();
          void move();
        }}
      >
        <div class="field grow">
          <label htmlFor={id}>The name points at</label>
          <input id={id} value={target} required autocomplete="off" spellcheck={false} onInput={(event) => setTarget(event.currentTarget.value)} />
        </div>
        <button type="submit" disabled={act.busy}>
          Move the name
        </button>
        <button type="button" class="danger" disabled={act.busy} onClick={() => setRemoving(true)}>
          Remove the name
        </button>
      </form>
      {removing && (
        <Confirm title="Remove the name" word={name} onYes={() => void remove()} onNo={() => setRemoving(false)}>
          The result stays while it is used; the name no longer keeps it.
        </Confirm>
      )}
    </section>
  );
}
