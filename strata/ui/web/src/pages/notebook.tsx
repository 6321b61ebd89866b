// One notebook: its cells, the app view of what they show, and its history.
import { effect } from "@preact/signals";
import { useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { ask, get, url } from "../api";
import { KEYS, Workbench } from "../notebook/bench";
import { Cell, ReadOnlyCell } from "../notebook/cell";
import { NotebookDocument } from "../notebook/document";
import { CellGraph } from "../notebook/graph";
import { History } from "../notebook/history";
import { called } from "../notebook/reasons";
import { may } from "../notebook/rights";
import { Runs } from "../notebook/runs";
import { NotebookSession } from "../notebook/session";
import { Badge, Confirm, Empty, known, Refusal, Show, Tabs, Time, useLoaded } from "../parts";
import { go, parameters } from "../router";
import type { DeletedAnswer, NotebookAnswer } from "../types";
import { me } from "../who";
import { Access } from "./notebooks";
import "../notebook/notebook.css";

export function Notebook() {
  const name = parameters.value.get("name") ?? "";
  const loaded = useLoaded(name, (signal) => get<NotebookAnswer>(`/v1/notebooks/${encodeURIComponent(name)}`, {}, signal));
  return (
    <>
      <nav class="crumbs" aria-label="Where this is">
        <a href="notebooks">Notebooks</a>
      </nav>
      {!loaded.value && (
        <div class="head">
          <h1>Notebook</h1>
        </div>
      )}
      {/* What the caller may do has to be known before editors are opened. */}
      <Show of={loaded} lines={10}>
        {(first) => (me.value ? <Open key={first.name} first={first} /> : null)}
      </Show>
    </>
  );
}

function Open({ first }: { first: NotebookAnswer }) {
  const bench = useMemo(() => {
    const doc = new NotebookDocument(first.name, first, may("write"), JSON.stringify([me.value?.tenant, me.value?.principal]));
    const session: NotebookSession = new NotebookSession(first.name, () => {
      if (session.revision.peek() > doc.base.peek().revision) void doc.reload().catch(() => undefined);
    }, (cells, principal) => {
      for (const cell of cells) doc.editors.set(cell, principal);
    });
    doc.member = () => session.presence.member.peek();
    doc.stranger = () => session.presence.lost();
    doc.send = (revision, edits) => session.edit(revision, edits);
    return new Workbench(doc, session, may("execute") && may("read"));
  }, [first.name]);
  const { document: doc, session } = bench;
  useEffect(() => {
    session.start();
    // What waits is sent as soon as the server is there again.
    const back = effect(() => {
      if (session.connected.value === "yes" && doc.state.peek() === "waiting") void doc.flush();
    });
    const leaving = (event: BeforeUnloadEvent) => {
      doc.keep();
      if (doc.unsaved()) event.preventDefault();
    };
    const hidden = () => document.hidden && doc.unsaved() && void doc.flush();
    const away = () => doc.keep();
    addEventListener("beforeunload", leaving);
    addEventListener("pagehide", away);
    document.addEventListener("visibilitychange", hidden);
    return () => {
      back();
      doc.close();
      session.close();
      removeEventListener("beforeunload", leaving);
      removeEventListener("pagehide", away);
      document.removeEventListener("visibilitychange", hidden);
    };
  }, [bench]);
  // What is stale follows from the revision.
  const revision = doc.base.value.revision;
  const seen = useRef(revision);
  useEffect(() => {
    if (seen.current === revision) return;
    seen.current = revision;
    void session.load().catch(() => undefined);
  }, [revision]);
  useEffect(() => {
    document.title = `${doc.title.value} · Strata`;
  }, [doc.title.value]);
  const tab = parameters.value.get("tab") ?? "cells";
  return (
    <>
      <Title bench={bench} />
      <Tabs
        chosen={tab}
        tabs={[
          ["cells", "Cells"],
          ["app", "App"],
          ["graph", "Graph"],
          ["runs", "Runs"],
          ["history", "History"],
        ]}
      />
      <div id="panel" role="tabpanel" aria-labelledby={`tab-${tab}`} class="panel">
        {tab === "app" ? <App bench={bench} /> : tab === "graph" ? <CellGraph bench={bench} /> : tab === "runs" ? <Runs bench={bench} /> : tab === "history" ? <History bench={bench} latest={revision} /> : <Cells bench={bench} />}
      </div>
    </>
  );
}

/** Cells that are drawn at a time. */
const PART = 25;

const SAVING: Record<string, string> = {
  saved: "Saved",
  typed: "Not saved yet",
  saving: "Saving…",
  waiting: "Not saved: the server does not answer. It is tried again.",
  locked: "Not saved yet: another person is editing this cell.",
  refused: "Not saved",
  conflict: "Not saved: choose a text",
};

function Title({ bench }: { bench: Workbench }) {
  const { document: doc, session } = bench;
  const base = doc.base.value;
  const [naming, setNaming] = useState(false);
  const state = doc.state.value;
  return (
    <>
      <div class="head nb-head-line">
        {naming ? (
          <Rename
            title={doc.title.value}
            done={(title) => {
              setNaming(false);
              if (title && title !== doc.title.peek()) doc.edit({ op: "describe", title });
            }}
          />
        ) : (
          <h1>{doc.title.value}</h1>
        )}
        <p class="nb-facts quiet">
          {doc.writes && !naming && (
            <button type="button" class="small" onClick={() => setNaming(true)}>
              Rename
            </button>
          )}{" "}
          <Access of={base.access} /> owned by {base.owner}; revision {base.revision} by {base.author}, <Time at={base.updated_at} />
        </p>
      </div>
      <div class="nb-status">
        <Here bench={bench} />
        <p class={`nb-saving ${state}`} role="status">
          {doc.writes ? SAVING[state] : "You may read this notebook only."}
          {session.connected.value === "no" && " The connection is lost; this page goes on when the server answers again."}
        </p>
      </div>
      <p class="unseen" role="status">
        {bench.announced.value}
      </p>
      {session.connected.value === "refused" && session.error.value && <Refusal error={session.error.value} />}
      {doc.refusal.value && state === "refused" && <Refusal error={doc.refusal.value} again={() => void doc.flush()} />}
      {bench.error.value && <Refusal error={bench.error.value} />}
      {doc.told.value.map((text, at) => (
        <p key={at} class="note" role="alert">
          {text}{" "}
          <button
            type="button"
            class="small"
            onClick={() => {
              doc.told.value = doc.told.peek().filter((_, other) => other !== at);
            }}
          >
            Understood
          </button>
        </p>
      ))}
    </>
  );
}

/** Who is in the notebook now. */
function Here({ bench }: { bench: Workbench }) {
  const { members, member } = bench.session.presence;
  const self = member.value;
  const others = members.value.filter((one) => one.member !== self);
  const names = [...new Set(others.map((one) => one.principal))];
  const cells = bench.document.cells.value;
  return (
    <ul class="nb-here" aria-label="Who is here">
      <li>
        <Badge kind="good">you</Badge>
      </li>
      {names.map((name) => {
        const at = others.find((one) => one.principal === name && one.focus !== null)?.focus ?? null;
        return (
          <li key={name}>
            {at !== null && cells.some(({ id }) => id === at) ? (
              <button type="button" class="small" title="Go to where this person is" onClick={() => bench.show(at)}>
                {name} at {called(cells, at)}
              </button>
            ) : (
              <Badge>{name}</Badge>
            )}
          </li>
        );
      })}
    </ul>
  );
}

function Rename({ title, done }: { title: string; done: (title: string | null) => void }) {
  const id = useId();
  const box = useRef<HTMLInputElement>(null);
  const [text, setText] = useState(title);
  useLayoutEffect(() => box.current?.select(), []);
  return (
    <form
      class="bar nb-rename"
      onSubmit={(event) => {
        event.preventDefault();
        done(text.trim() || null);
      }}
      onKeyDown={(event) => event.key === "Escape" && done(null)}
    >
      <div class="field grow">
        <label htmlFor={id}>Title</label>
        <input id={id} ref={box} value={text} maxLength={256} autocomplete="off" onInput={(event) => setText(event.currentTarget.value)} />
      </div>
      <button type="submit">Rename</button>
      <button type="button" onClick={() => done(null)}>
        Cancel
      </button>
    </form>
  );
}

function Cells({ bench }: { bench: Workbench }) {
  const { document: doc, session } = bench;
  const cells = doc.cells.value;
  const nodes = new Map(doc.base.value.dag.cells.map((node) => [node.id, node]));
  const busy = session.busy.value;
  const shown = useGrowing(cells.length, bench);
  const onKey = (event: KeyboardEvent) => {
    const target = event.target as HTMLElement;
    if (event.defaultPrevented || !(target.classList.contains("nb-cell") || target.id === KEYS)) return;
    if (bench.command(event)) event.preventDefault();
  };
  return (
    <>
      <div class="nb-bar" role="toolbar" aria-label="Notebook">
        <button type="button" class="main" disabled={!bench.executes || cells.length === 0} onClick={() => void bench.run(null)}>
          Run all
        </button>
        <button type="button" disabled={!bench.executes || !busy} onClick={() => void bench.interrupt()} title="I, I">
          Interrupt
        </button>
        {doc.writes && (
          <>
            <button type="button" onClick={() => bench.insert(cells.length, "python", "", true)}>
              + Python
            </button>
            <button type="button" onClick={() => bench.insert(cells.length, "sql", "", true)}>
              + SQL
            </button>
            <button type="button" onClick={() => bench.insert(cells.length, "markdown", "", true)}>
              + Markdown
            </button>
          </>
        )}
        <More bench={bench} />
        <button type="button" onClick={() => (bench.help.value = true)} title="?">
          Keys
        </button>
      </div>
      {!bench.executes && <p class="note">To run cells needs the scope notebook:execute, which you have not.</p>}
      {cells.length === 0 && <Empty title="This notebook has no cells">{doc.writes && "Add one above."}</Empty>}
      <div class="nb-cells" id={KEYS} tabIndex={-1} onKeyDown={onKey}>
        {cells.slice(0, shown).map((cell, at) => (
          <Cell key={cell.id} bench={bench} cell={cell} at={at} total={cells.length} node={nodes.get(cell.id)} />
        ))}
      </div>
      {bench.help.value && <Keys bench={bench} />}
    </>
  );
}

/** Draw the first cells at once, and the others bit by bit: a long notebook can be used before all of it is there. */
function useGrowing(all: number, bench: Workbench): number {
  const [shown, setShown] = useState(PART);
  const selected = bench.selected.value;
  const far = selected !== null && bench.document.cells.peek().findIndex(({ id }) => id === selected) >= shown;
  useEffect(() => {
    if (shown >= all) return;
    const timer = setTimeout(() => setShown(far ? all : shown + PART), far ? 0 : 30);
    return () => clearTimeout(timer);
  }, [shown, all, far]);
  return Math.max(shown, far ? all : 0);
}

function More({ bench }: { bench: Workbench }) {
  const [asked, setAsked] = useState(false);
  const { document: doc } = bench;
  const path = `/v1/notebooks/${encodeURIComponent(doc.name)}/export`;
  const remove = async () => {
    setAsked(false);
    try {
      await ask<DeletedAnswer>("DELETE", `/v1/notebooks/${encodeURIComponent(doc.name)}`);
      doc.pending.value = [];
      go("notebooks");
    } catch (error) {
      bench.error.value = known(error);
    }
  };
  return (
    <details class="picker">
      <summary>More</summary>
      <div class="picker-body nb-more">
        <a class="button" href={url(path, { format: "ipynb" }).href} download>
          Download as .ipynb
        </a>
        <a class="button" href={url(path, { format: "script" }).href} download>
          Download as Python
        </a>
        <a class="button" href={url(path, { format: "html" }).href} download>
          Download as HTML
        </a>
        {bench.executes && (
          <button type="button" onClick={() => void bench.run(null, true)}>
            Run all, reuse nothing
          </button>
        )}
        {doc.writes && (
          <button type="button" class="danger" onClick={() => setAsked(true)}>
            Delete the notebook
          </button>
        )}
      </div>
      {asked && (
        <Confirm title="Delete" word={doc.title.value} onYes={() => void remove()} onNo={() => setAsked(false)}>
          The notebook, its revisions and the results of its cells are deleted for everyone. This cannot be undone.
        </Confirm>
      )}
    </details>
  );
}

const LEGEND: [string, string][] = [
  ["Shift+Enter", "run the cell, go to the next"],
  ["Ctrl+Enter", "run the cell, stay"],
  ["Alt+Enter", "run the cell, add one below"],
  ["Enter", "edit the cell"],
  ["Escape", "leave the editor; then the keys below act on the cell"],
  ["↑ ↓ or K J", "go to another cell"],
  ["Home, End", "go to the first, the last"],
  ["A, B", "add a cell above, below"],
  ["D, D", "delete the cell; Z takes it back"],
  ["X, C, V", "cut, copy, paste a cell"],
  ["M, Y, S", "make it Markdown, Python, SQL"],
  ["Alt+↑, Alt+↓", "move the cell"],
  ["I, I", "interrupt what runs"],
  ["?", "show these keys"],
];

function Keys({ bench }: { bench: Workbench }) {
  const box = useRef<HTMLDialogElement>(null);
  useLayoutEffect(() => box.current?.showModal(), []);
  return (
    <dialog
      ref={box}
      aria-label="Keys"
      onClose={() => {
        bench.help.value = false;
        bench.show(bench.selected.peek());
      }}
    >
      <h2>Keys</h2>
      <dl class="nb-keys">
        {LEGEND.map(([key, what]) => (
          <div key={key}>
            <dt>
              <kbd>{key}</kbd>
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
      <p class="buttons">
        <button type="button" onClick={() => box.current?.close()}>
          Close
        </button>
      </p>
    </dialog>
  );
}

/** What the cells show, without their sources. */
function App({ bench }: { bench: Workbench }) {
  const cells = bench.document.cells.value;
  const { executes, session } = bench;
  const any = cells.some(({ id, language }) => language === "markdown" || session.of(id).value.found?.result);
  return (
    <>
      {executes && (
        <div class="nb-bar">
          <button type="button" onClick={() => void bench.run(null)} disabled={session.busy.value}>
            {session.busy.value ? "Running…" : "Run again"}
          </button>
        </div>
      )}
      <div class="nb-app">
        {session.loaded.value && !any && <Empty title="There is nothing to see yet">Its cells have not run.</Empty>}
        {cells.map((cell) => (
          <ReadOnlyCell key={cell.id} bench={bench} cell={cell} />
        ))}
      </div>
    </>
  );
}
