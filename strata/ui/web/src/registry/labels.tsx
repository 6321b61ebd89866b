// Names, tags and pins of one result.
import { useId, useState } from "preact/hooks";
import { Told, useAct } from "../act";
import type { Act } from "../act";
import { ask, get } from "../api";
import { Show, useLoaded } from "../parts";
import { pins, writes } from "../rights";
import { href } from "../router";
import type { HoldAnswer, TagsAnswer } from "../types";

export function TagsOf({ path }: { path: string }) {
  const ids = { key: useId(), value: useId() };
  const [key, setKey] = useState("");
  const [value, setValue] = useState("");
  const act = useAct();
  const tags = useLoaded(path, (signal) => get<TagsAnswer>(`${path}/tags`, {}, signal));
  const add = async () => {
    const done = await act.run(async () => {
      await ask("PUT", `${path}/tags`, JSON.stringify({ key: key.trim(), value: value.trim() }));
      return `The tag ${key.trim()} is set.`;
    });
    if (!done) return;
    setKey("");
    setValue("");
    tags.again();
  };
  const remove = async (name: string) => {
    await act.run(async () => {
      await ask("DELETE", `${path}/tags/${encodeURIComponent(name)}`);
      return `The tag ${name} is removed.`;
    });
    tags.again();
  };
  return (
    <>
      <Told of={act} />
      <Show of={tags} lines={2}>
        {(found) =>
          Object.keys(found.tags).length === 0 ? (
            <p class="quiet">This result has no tags.</p>
          ) : (
            <ul class="labels" aria-label="Tags">
              {Object.entries(found.tags).map(([name, text]) => (
                <li key={name} class="chip">
                  <a href={href("results", { tab: "tags", key: name, value: text })}>{text ? `${name}: ${text}` : name}</a>
                  {writes() && (
                    <button type="button" disabled={act.busy} aria-label={`Remove the tag ${name}`} onClick={() => void remove(name)}>
                      ✕
                    </button>
                  )}
                </li>
              ))}
            </ul>
          )
        }
      </Show>
      {writes() && (
        <form
          class="bar"
          onSubmit={(event) => {
            event.preventDefault();
            void add();
          }}
        >
          <div class="field">
            <label htmlFor={ids.key}>Tag</label>
            <input id={ids.key} value={key} required maxLength={128} autocomplete="off" onInput={(event) => setKey(event.currentTarget.value)} />
          </div>
          <div class="field">
            <label htmlFor={ids.value}>Value</label>
            <input id={ids.value} value={value} maxLength={256} autocomplete="off" onInput={(event) => setValue(event.currentTarget.value)} />
          </div>
          <button type="submit" disabled={act.busy}>
            Set the tag
          </button>
        </form>
      )}
    </>
  );
}

export function PinsOf({ path, holds, act, done }: { path: string; holds: HoldAnswer[]; act: Act; done: () => void }) {
  const id = useId();
  const [reason, setReason] = useState("");
  if (!pins()) return null;
  const add = async () => {
    const pinned = await act.run(async () => {
      await ask("POST", `${path}/pin`, JSON.stringify({ reason: reason.trim() }));
      return `It is pinned: ${reason.trim()}.`;
    });
    if (!pinned) return;
    setReason("");
    done();
  };
  const remove = async (why: string) => {
    await act.run(async () => {
      await ask("DELETE", `${path}/pin?reason=${encodeURIComponent(why)}`);
      return `The pin is removed: ${why}.`;
    });
    done();
  };
  return (
    <section>
      <h2>Pins</h2>
      <p class="quiet">A pin keeps this result, and all that it was made of, until it is removed.</p>
      <ul class="labels" aria-label="Pins">
        {holds
          .filter(({ kind }) => kind === "pin")
          .map(({ reason: why }) => (
            <li key={why} class="chip">
              {why}
              <button type="button" disabled={act.busy} aria-label={`Remove the pin ${why ?? ""}`} onClick={() => void remove(why ?? "")}>
                ✕
              </button>
            </li>
          ))}
      </ul>
      <form
        class="bar"
        onSubmit={(event) => {
          event.preventDefault();
          void add();
        }}
      >
        <div class="field grow">
          <label htmlFor={id}>Reason</label>
          <input id={id} value={reason} required maxLength={256} autocomplete="off" onInput={(event) => setReason(event.currentTarget.value)} />
        </div>
        <button type="submit" disabled={act.busy}>
          Pin it
        </button>
      </form>
    </section>
  );
}
