// The revisions of a notebook, and what each of them changed.
import { useState } from "preact/hooks";
import { ask, get } from "../api";
import type { ApiError } from "../api";
import { bytes } from "../format";
import { Badge, Empty, known, More, Refusal, Show, Time, useLoaded, usePages } from "../parts";
import { change, parameters } from "../router";
import type { CellChangeAnswer, ComparisonAnswer, NotebookAnswer, RevisionAnswer, RevisionListAnswer } from "../types";
import type { Workbench } from "./bench";
import { lines } from "./diff";
import { turnedInto } from "./edits";

const PAGE = 50;

export function History({ bench, latest }: { bench: Workbench; latest: number }) {
  const { name } = bench.document;
  const path = `/v1/notebooks/${encodeURIComponent(name)}/revisions`;
  const list = usePages<RevisionAnswer>(`${name} ${latest}`, async (token, signal) => {
    const found = await get<RevisionListAnswer>(path, { limit: PAGE, page_token: token }, signal);
    return { items: found.revisions, next: found.next_page_token };
  });
  const given = parameters.value;
  const after = Number(given.get("after")) || list.items[0]?.revision || latest;
  const at = list.items.findIndex(({ revision }) => revision === after);
  const before = Number(given.get("before")) || list.items[at + 1]?.revision || Math.max(1, after - 1);
  return (
    <div class="nb-history">
      <Show of={list}>
        {() => (
          <div>
            <ul class="nb-revisions" aria-label="Revisions">
              {list.items.map((one) => (
                <li key={one.revision} class={one.revision === after ? "chosen" : ""}>
                  <button type="button" aria-pressed={one.revision === after} onClick={() => change({ after: one.revision, before: null })}>
                    <strong>Revision {one.revision}</strong> <span>{one.author}</span> <Time at={one.created_at} /> <span class="quiet">{bytes(one.byte_size)}</span>
                  </button>
                </li>
              ))}
            </ul>
            <More list={list} />
          </div>
        )}
      </Show>
      {list.value && (
        <div>
          <Difference name={name} before={before} after={after} />
          {bench.document.writes && after !== latest && <Return key={after} bench={bench} revision={after} />}
        </div>
      )}
    </div>
  );
}

/** Make an earlier revision the latest one, as a revision of its own: nothing of the history is lost. */
function Return({ bench, revision }: { bench: Workbench; revision: number }) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<ApiError | null>(null);
  const { document: doc } = bench;
  const path = `/v1/notebooks/${encodeURIComponent(doc.name)}/edits`;
  const back = async () => {
    setBusy(true);
    setError(null);
    try {
      if (!(await doc.flush())) return;
      const [now, then] = await Promise.all([
        get<NotebookAnswer>(`/v1/notebooks/${encodeURIComponent(doc.name)}`),
        get<NotebookAnswer>(`/v1/notebooks/${encodeURIComponent(doc.name)}`, { revision }),
      ]);
      const edits = turnedInto(now.cells, then.cells);
      if (now.title !== then.title) edits.push({ op: "describe", title: then.title });
      if (edits.length) await ask<NotebookAnswer>("POST", path, JSON.stringify({ revision: now.revision, edits }));
      await doc.reload();
      bench.announced.value = `The notebook is as it was in revision ${revision}.`;
      change({ before: null, after: null });
    } catch (refused) {
      setError(known(refused));
    } finally {
      setBusy(false);
    }
  };
  return (
    <div class="nb-return">
      <button type="button" disabled={busy} onClick={() => void back()}>
        Go back to revision {revision}
      </button>{" "}
      <span class="quiet">as a new revision; the others stay in the history.</span>
      {error && <Refusal error={error} />}
    </div>
  );
}

function Difference({ name, before, after }: { name: string; before: number; after: number }) {
  const path = `/v1/notebooks/${encodeURIComponent(name)}/diff`;
  const found = useLoaded(before === after ? null : `${name} ${before} ${after}`, (signal) =>
    get<ComparisonAnswer>(path, { before, after }, signal),
  );
  if (before === after) return <Empty title="The first revision">There is nothing before it to compare it with.</Empty>;
  if (found.error) return <Refusal error={found.error} again={found.again} />;
  return (
    <section aria-label="Difference" class="nb-difference">
      <h2>
        From revision {before} to {after}
      </h2>
      <Show of={found}>
        {(one) => (
          <>
            {one.after_title !== null && (
              <p>
                Title: <del>{one.before_title}</del> <ins>{one.after_title}</ins>
              </p>
            )}
            {one.cells.length === 0 && one.after_title === null && <p class="quiet">No cell changed.</p>}
            {one.cells.map((change, at) => (
              <Change key={at} of={change} />
            ))}
          </>
        )}
      </Show>
    </section>
  );
}

const KINDS: Record<string, string> = { added: "good", removed: "bad", changed: "warn", moved: "" };

function Change({ of }: { of: CellChangeAnswer }) {
  const place = of.after_place ?? of.before_place;
  const shown = of.kind === "moved" ? [] : lines(of.before?.source ?? "", of.after?.source ?? "").filter((line) => of.before || line.kind !== "out").filter((line) => of.after || line.kind !== "in");
  return (
    <div class="nb-change">
      <p>
        <Badge kind={KINDS[of.kind] ?? ""}>{of.kind}</Badge> {place !== null && `cell ${place + 1}`}
        {of.kind === "moved" && of.before_place !== null && of.after_place !== null && `, which was cell ${of.before_place + 1}`}
        {of.before && of.after && of.before.language !== of.after.language && `, ${of.before.language} to ${of.after.language}`}
      </p>
      {shown.length > 0 && (
        <pre class="nb-diff" tabIndex={0} aria-label="Lines">
          {shown.map((line, at) => (
            <span key={at} class={line.kind}>
              {line.kind === "in" ? "+ " : line.kind === "out" ? "- " : "  "}
              {line.text}
              {"\n"}
            </span>
          ))}
        </pre>
      )}
    </div>
  );
}
