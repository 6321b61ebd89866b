// The notebooks of the caller's team: find one, make one, import one, delete one.
import { useId, useRef, useState } from "preact/hooks";
import { ask, get, send, url } from "../api";
import type { ApiError } from "../api";
import { plural } from "../format";
import { may } from "../notebook/rights";
import { Badge, Choice, Confirm, Empty, known, More, Refusal, Time, usePages, Waiting } from "../parts";
import { go, href } from "../router";
import type { DeletedAnswer, ImportAnswer, NotebookAnswer, NotebookListAnswer, NotebookSummary } from "../types";

const PAGE = 50;

export function Notebooks() {
  const list = usePages<NotebookSummary>("notebooks", async (token, signal) => {
    const found = await get<NotebookListAnswer>("/v1/notebooks", { limit: PAGE, page_token: token }, signal);
    return { items: found.notebooks, next: found.next_page_token };
  });
  const [making, setMaking] = useState(false);
  const [asked, setAsked] = useState<NotebookSummary | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const [imported, setImported] = useState<ImportAnswer | null>(null);
  const [told, setTold] = useState("");
  const file = useRef<HTMLInputElement>(null);
  const writes = may("write");

  const take = async (chosen: File) => {
    setError(null);
    try {
      const title = chosen.name.replace(/\.ipynb$/i, "") || "Notebook";
      const answer = await send(url("/v1/notebook-imports", { title: title.slice(0, 200) }), {
        method: "POST",
        body: await chosen.text(),
        headers: { Accept: "application/json", "Content-Type": "application/x-ipynb+json" },
      });
      const found = (await answer.json()) as ImportAnswer;
      if (found.import_report.length === 0) go(href("notebook", { name: found.notebook.name }));
      else {
        setImported(found);
        list.again();
      }
    } catch (refused) {
      setError(known(refused));
    }
  };
  const remove = async (one: NotebookSummary) => {
    setAsked(null);
    setError(null);
    try {
      await ask<DeletedAnswer>("DELETE", `/v1/notebooks/${encodeURIComponent(one.name)}`);
      setTold(`${one.title} is deleted.`);
      list.again();
    } catch (refused) {
      setError(known(refused));
    }
  };
  return (
    <>
      <div class="head">
        <h1>Notebooks</h1>
        {writes && (
          <div class="buttons left">
            <button type="button" class="main" onClick={() => setMaking(!making)} aria-expanded={making}>
              New notebook
            </button>
            <button type="button" onClick={() => file.current?.click()}>
              Import .ipynb
            </button>
            <input
              ref={file}
              type="file"
              accept=".ipynb,application/x-ipynb+json,application/json"
              hidden
              aria-label="Notebook file"
              onChange={(event) => {
                const chosen = event.currentTarget.files?.[0];
                event.currentTarget.value = "";
                if (chosen) void take(chosen);
              }}
            />
          </div>
        )}
        <p class="quiet">Cells in Python, SQL and Markdown, which your team runs and reads together.</p>
      </div>
      {making && <Make onError={setError} />}
      {error && <Refusal error={error} />}
      {imported && <Report of={imported} />}
      <p class="unseen" role="status">
        {told}
      </p>
      {list.error && <Refusal error={list.error} again={list.again} />}
      {list.loading && <Waiting lines={8} />}
      {list.value && list.items.length === 0 && (
        <Empty title="There is no notebook yet">{writes ? "Make one, or import a file of Jupyter's." : "To make one needs the scope notebook:write."}</Empty>
      )}
      {list.items.length > 0 && (
        <div class="scroll" tabIndex={0} role="region" aria-label="Notebooks">
          <table class="wide">
            <thead>
              <tr>
                <th scope="col">Title</th>
                <th scope="col">Owner</th>
                <th scope="col">For</th>
                <th scope="col" class="number">
                  Revision
                </th>
                <th scope="col">Changed</th>
                {writes && (
                  <th scope="col">
                    <span class="unseen">Actions</span>
                  </th>
                )}
              </tr>
            </thead>
            <tbody>
              {list.items.map((one) => (
                <tr key={one.name}>
                  <th scope="row">
                    <a href={href("notebook", { name: one.name })}>{one.title}</a>
                  </th>
                  <td>{one.owner}</td>
                  <td>
                    <Access of={one.access} />
                  </td>
                  <td class="number">{one.revision}</td>
                  <td class="nowrap">
                    <Time at={one.updated_at} />
                  </td>
                  {writes && (
                    <td class="number">
                      <button type="button" class="danger small" aria-label={`Delete ${one.title}`} onClick={() => setAsked(one)}>
                        Delete
                      </button>
                    </td>
                  )}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      <More list={list} />
      {asked && (
        <Confirm title="Delete" word={asked.title} onYes={() => void remove(asked)} onNo={() => setAsked(null)}>
          The notebook, its {plural(asked.revision, "revision")} and the results of its cells are deleted for everyone. This cannot be undone.
        </Confirm>
      )}
    </>
  );
}

export function Access({ of }: { of: string }) {
  return of === "private" ? <Badge kind="warn">only its owner</Badge> : <Badge>the team</Badge>;
}

function Make({ onError }: { onError: (error: ApiError | null) => void }) {
  const id = useId();
  const [title, setTitle] = useState("");
  const [access, setAccess] = useState("tenant");
  const [busy, setBusy] = useState(false);
  const box = useRef<HTMLInputElement | null>(null);
  return (
    <form
      class="bar card"
      onSubmit={async (event) => {
        event.preventDefault();
        onError(null);
        setBusy(true);
        try {
          const body = JSON.stringify({ title: title.trim() || "Notebook", access, cells: [{ source: "" }] });
          const made = await ask<NotebookAnswer>("POST", "/v1/notebooks", body);
          go(href("notebook", { name: made.name }));
        } catch (refused) {
          onError(known(refused));
          setBusy(false);
        }
      }}
    >
      <div class="field grow">
        <label htmlFor={id}>Title</label>
        <input
          id={id}
          ref={(element) => {
            if (element && box.current !== element) element.focus();
            box.current = element;
          }}
          value={title}
          maxLength={256}
          autocomplete="off"
          onInput={(event) => setTitle(event.currentTarget.value)}
        />
      </div>
      <Choice
        label="For"
        value={access}
        options={[
          ["tenant", "the team"],
          ["private", "only you"],
        ]}
        onChange={setAccess}
      />
      <button type="submit" class="main" disabled={busy}>
        Make it
      </button>
    </form>
  );
}

function Report({ of }: { of: ImportAnswer }) {
  return (
    <section class="card" aria-label="Import" role="status">
      <h2>
        Imported: <a href={href("notebook", { name: of.notebook.name })}>{of.notebook.title}</a>
      </h2>
      <p class="quiet">Not everything in the file could be kept as it was:</p>
      <ul>
        {of.import_report.map((line, at) => (
          <li key={at}>
            {line.cell !== null && `Cell ${line.cell}: `}
            {line.message}
          </li>
        ))}
        {of.left_out > 0 && <li>{plural(of.left_out, "further line")}.</li>}
      </ul>
    </section>
  );
}
