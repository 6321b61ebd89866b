// One cell: its editor, how it stands, and what it has left.
import { effect, useComputed } from "@preact/signals";
import { Component } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { get } from "../api";
import { Badge, known } from "../parts";
import type { CellAnswer, CellNodeAnswer, TableListAnswer } from "../types";
import { chartsOf } from "./bench";
import type { Workbench } from "./bench";
import type { Editor, Mark } from "./editor";
import { SOMEBODY } from "./edits";
import { Console, Failure, Outputs, Rendered, took } from "./outputs";
import { called, summary } from "./reasons";

export const LANGUAGES: Record<string, string> = { python: "Python", sql: "SQL", markdown: "Markdown" };

/** Milliseconds in sight after which a cell gets its editor. */
const PASSING = 80;

const HINTS: Record<string, string> = { python: "Python", sql: "SELECT …", markdown: "Markdown" };

interface Props {
  bench: Workbench;
  cell: CellAnswer;
  at: number;
  total: number;
  node: CellNodeAnswer | undefined;
}

/** A cell that is drawn anew only where something of it has changed: a notebook may have hundreds. */
export class Cell extends Component<Props> {
  override shouldComponentUpdate(next: Props): boolean {
    const { bench, cell, at, total, node } = this.props;
    return bench !== next.bench || cell !== next.cell || at !== next.at || total !== next.total || node !== next.node;
  }

  override render() {
    return <Drawn {...this.props} />;
  }
}

function Drawn({ bench, cell, at, total, node }: Props) {
  const { document: doc, session } = bench;
  const { id } = cell;
  const state = session.of(id).value;
  const typed = useComputed(() => doc.dirty.value.has(id)).value;
  const conflict = useComputed(() => doc.conflicts.value.get(id)).value;
  const selected = useComputed(() => bench.selected.value === id).value;
  const editing = useComputed(() => bench.selected.value === id && bench.editing.value).value;
  const first = useComputed(() => bench.selected.value === null).value && at === 0;
  const text = typed ? doc.text(cell.id) : cell.source;
  const runs = cell.language !== "markdown";
  const how = summary(state.found, state.status, typed, doc.cells.peek());
  const result = state.found?.result ?? null;
  const rendered = !runs && !editing && text.trim() !== "";
  const label = `Cell ${at + 1} of ${total}, ${LANGUAGES[cell.language] ?? cell.language}${runs ? `, ${how.word}` : ""}`;
  const fresh = result !== null && !typed && !(state.found?.stale ?? []).some(({ because }) => because === "source_changed");
  const marks: Mark[] = [
    ...(node && !typed ? node.diagnostics.filter(({ line, severity }) => line !== null && severity !== "info").map(({ line, message, severity }) => ({ line: line ?? 1, message, severity })) : []),
    ...(result && fresh && result.outcome !== "ok" && result.line !== null ? [{ line: result.line, message: result.message, severity: "error" }] : []),
  ];
  return (
    <section
      id={`cell-${cell.id}`}
      class={`nb-cell ${selected ? "selected" : ""} ${editing ? "editing" : ""} is-${runs ? how.kind : "text"}`}
      tabIndex={selected || first ? 0 : -1}
      aria-label={label}
      aria-current={selected ? "true" : undefined}
      onFocus={(event) => {
        if (bench.selected.peek() !== cell.id) bench.select(cell.id, false);
        if (event.target === event.currentTarget) bench.editing.value = false;
      }}
      onMouseDown={() => bench.selected.peek() !== cell.id && bench.select(cell.id, false)}
    >
      <div class="nb-side">
        {runs && (
          <button
            type="button"
            class="icon run"
            disabled={!bench.executes}
            aria-label={`Run cell ${at + 1}`}
            title={bench.executes ? "Run (Shift+Enter)" : "To run cells needs the scope notebook:execute"}
            onClick={() => void bench.run([cell.id])}
          >
            ▶
          </button>
        )}
        <span class="nb-number" aria-hidden="true">
          {at + 1}
        </span>
      </div>
      <div class="nb-main">
        <Head bench={bench} cell={cell} at={at} total={total} />
        <Others bench={bench} cell={cell} />
        {rendered ? (
          <div class="nb-text" onDblClick={() => bench.edit(cell.id)}>
            <Rendered text={text} />
          </div>
        ) : (
          <Source bench={bench} cell={cell} label={`${label}: source`} marks={marks} names={node} wanted={!runs && editing} />
        )}
        {conflict && (
          <div class="nb-conflict" role="alert">
            <p>
              <strong>{conflict.by === SOMEBODY ? "Another person" : conflict.by} changed this cell, too.</strong> Yours is above and is not saved; this is theirs:
            </p>
            <pre tabIndex={0} aria-label="The other text">
              {conflict.theirs}
            </pre>
            <p class="buttons left">
              <button type="button" onClick={() => bench.resolve(cell.id, "mine")}>
                Keep mine
              </button>
              <button type="button" onClick={() => bench.resolve(cell.id, "theirs")}>
                Take theirs
              </button>
              <button type="button" onClick={() => bench.resolve(cell.id, "both")}>
                Keep both, theirs in a new cell
              </button>
            </p>
          </div>
        )}
        {node && !typed && <Diagnostics bench={bench} cell={cell} node={node} />}
        {runs && (
          <p class={`nb-state ${how.kind}`}>
            <Badge kind={{ good: "good", failed: "bad", stale: "warn", running: "run", queued: "run", new: "", hidden: "", none: "" }[how.kind]}>{how.word}</Badge>
            {["stale", "hidden"].includes(how.kind) && <span>{how.text}</span>}
            {result && how.kind !== "running" && (
              <span class="quiet">
                {state.reused ? "reused: " : ""}
                {took(result.seconds)} by {result.run_by}
              </span>
            )}
          </p>
        )}
        {state.skipped !== null && state.status === "idle" && (
          <p class="nb-skipped" role="status">
            Not run: {state.skipped}
          </p>
        )}
        {state.status === "running" ? (
          <Console of={state.console} />
        ) : (
          result && (
            <div class={how.kind === "stale" ? "old" : ""}>
              <Outputs place={{ notebook: doc.name, cell: cell.id, called: `cell ${at + 1}` }} result={result} stamp={`${result.revision} ${result.seconds} ${result.outcome}`} charts={{ kept: chartsOf(cell), keep: doc.writes ? (name, chart) => bench.chart(cell.id, name, chart) : null }} />
              {result.outcome !== "ok" && <Failure result={result} {...(fresh ? { onLine: (line: number) => bench.goTo(cell.id, line) } : {})} />}
              {result.changed_in_place.length > 0 && (
                <p class="note">
                  This cell changed {result.changed_in_place.join(", ")} in place: other cells do not see that. Assign the changed value to a new name instead.
                </p>
              )}
            </div>
          )
        )}
      </div>
    </section>
  );
}

function Head({ bench, cell, at, total }: { bench: Workbench; cell: CellAnswer; at: number; total: number }) {
  if (!bench.document.writes) return <div class="nb-head">{cell.name && <span class="quiet">{cell.name}</span>}</div>;
  return (
    <div class="nb-head">
      <select
        aria-label={`Language of cell ${at + 1}`}
        value={cell.language}
        onChange={(event) => bench.turn(cell.id, event.currentTarget.value)}
      >
        {Object.entries(LANGUAGES).map(([key, word]) => (
          <option key={key} value={key} selected={key === cell.language}>
            {word}
          </option>
        ))}
      </select>
      {cell.name && <span class="quiet">{cell.name}</span>}
      <span class="nb-actions">
        <button type="button" class="icon" disabled={at === 0} aria-label={`Move cell ${at + 1} up`} title="Move up (Alt+↑)" onClick={() => bench.move(cell.id, -1)}>
          ↑
        </button>
        <button type="button" class="icon" disabled={at === total - 1} aria-label={`Move cell ${at + 1} down`} title="Move down (Alt+↓)" onClick={() => bench.move(cell.id, 1)}>
          ↓
        </button>
        <button type="button" class="icon" aria-label={`Add a cell below cell ${at + 1}`} title="Add below (B)" onClick={() => bench.insert(at + 1)}>
          +
        </button>
        <button type="button" class="icon" aria-label={`Delete cell ${at + 1}`} title="Delete (D, D); Z takes it back" onClick={() => bench.remove(cell.id)}>
          ✕
        </button>
      </span>
    </div>
  );
}

/** Who else is at a cell. */
function Others({ bench, cell }: { bench: Workbench; cell: CellAnswer }) {
  const { presence } = bench.session;
  const { id } = cell;
  const edits = useComputed(() => {
    const lock = presence.locks.value.get(id);
    return lock && lock.member !== presence.member.value ? lock.principal : "";
  }).value;
  const here = useComputed(() => {
    const lock = presence.locks.value.get(id)?.member;
    const others = presence.members.value.filter((one) => one.focus === id && one.member !== presence.member.value && one.member !== lock);
    return JSON.stringify([...new Set(others.map(({ principal }) => principal))]);
  }).value;
  const names = JSON.parse(here) as string[];
  if (!edits && !names.length) return null;
  return (
    <p class="nb-others">
      {edits && <Badge kind="warn">{edits} is editing</Badge>}
      {names.map((name) => (
        <Badge key={name}>{name} is here</Badge>
      ))}
    </p>
  );
}

function Diagnostics({ bench, cell, node }: { bench: Workbench; cell: CellAnswer; node: CellNodeAnswer }) {
  const shown = node.diagnostics.filter(({ severity }) => severity !== "info");
  if (!shown.length || !cell.source.trim()) return null;
  return (
    <ul class="nb-notes" aria-label="Notes">
      {shown.map((one, at) => (
        <li key={at} class={one.severity}>
          {one.line !== null && (
            <button type="button" class="small" onClick={() => bench.goTo(cell.id, one.line ?? 1)}>
              line {one.line}
            </button>
          )}{" "}
          {one.message}
        </li>
      ))}
    </ul>
  );
}

interface SourceProps {
  bench: Workbench;
  cell: CellAnswer;
  label: string;
  marks: Mark[];
  names: CellNodeAnswer | undefined;
  wanted: boolean;
}

/** The source: plain text until it comes near to what is in sight, then an editor. */
function Source({ bench, cell, label, marks, wanted }: SourceProps) {
  const host = useRef<HTMLDivElement>(null);
  const editor = useRef<Editor | null>(null);
  const [ready, setReady] = useState(false);
  const [failed, setFailed] = useState<string | null>(null);
  const doc = bench.document;
  const id = cell.id;

  useEffect(() => {
    const element = host.current;
    if (!element) return;
    let current = true;
    let begun = false;
    let timer = 0;
    const begin = async () => {
      watch.disconnect();
      clearTimeout(timer);
      if (begun) return;
      begun = true;
      // Names that are offered may reach out of the cell: it is laid out as a whole from now on.
      const section = element.closest<HTMLElement>(".nb-cell");
      if (section) section.dataset["near"] = "";
      let open: typeof import("./editor").open;
      try {
        ({ open } = await import("./editor"));
      } catch (error) {
        if (current) setFailed(known(error).message);
        return;
      }
      if (!current) return;
      const made = open(element, {
        text: doc.text(id),
        language: cell.language,
        label,
        readOnly: !doc.writes,
        hint: HINTS[cell.language] ?? "",
        names: () => bench.namesFor(id),
        tables: async (prefix, signal) => {
          const found = await get<TableListAnswer>("/v1/tables", { q: prefix.split(/[:.]/).at(-1), limit: 50 }, signal);
          const fitting = found.tables.filter(({ uri }) => uri.toLowerCase().startsWith(prefix.toLowerCase()));
          return (fitting.length ? fitting : found.tables).map(({ uri, kind }) => ({ label: uri, detail: kind }));
        },
        columns: () => bench.columnsFor(id),
        onText: (text) => doc.type(id, text),
        onFocus: () => bench.select(id, true),
        onKey: (key) => bench.key(id, key),
      });
      editor.current = made;
      setReady(true);
      bench.register(id, made);
    };
    // Who scrolls past many cells does not wait for their editors.
    const watch = new IntersectionObserver(
      (seen) => {
        clearTimeout(timer);
        if (seen.at(-1)?.isIntersecting) timer = window.setTimeout(() => void begin(), PASSING);
      },
      { rootMargin: "400px" },
    );
    watch.observe(element);
    const forced = effect(() => {
      if (wanted || bench.wanted.value === id) void begin();
    });
    return () => {
      current = false;
      forced();
      clearTimeout(timer);
      watch.disconnect();
      if (editor.current) {
        bench.forget(id, editor.current);
        editor.current.close();
        editor.current = null;
      }
      setReady(false);
    };
  }, [id]);

  // A text of others is taken where nothing was typed here.
  const typed = useComputed(() => doc.dirty.value.has(id)).value;
  useEffect(() => {
    // Now, not when this was drawn: what was typed in between is not replaced.
    if (editor.current && !doc.dirty.peek().has(id)) editor.current.set(cell.source);
  }, [cell.source, ready, typed]);
  useEffect(() => editor.current?.language(cell.language), [cell.language, ready]);
  useEffect(() => editor.current?.label(label), [label, ready]);
  const marked = JSON.stringify(marks);
  useEffect(() => editor.current?.mark(marks), [marked, ready]);

  return (
    <div class="nb-source">
      {!ready && (
        <pre class="nb-plain" onClick={() => bench.edit(id)}>
          {doc.text(id) || " "}
        </pre>
      )}
      {failed && <p class="quiet">The editor could not be loaded: {failed}</p>}
      <div ref={host} class={ready ? "" : "unready"} />
    </div>
  );
}

/** A cell without its source, for readers. */
export function ReadOnlyCell({ bench, cell }: { bench: Workbench; cell: CellAnswer }) {
  const state = bench.session.of(cell.id).value;
  const cells = bench.document.cells.value;
  if (cell.language === "markdown") return <Rendered text={cell.source} />;
  const result = state.found?.result ?? null;
  const how = summary(state.found, state.status, false, cells);
  if (!result) {
    if (how.kind === "hidden") return <p class="quiet">{how.text}</p>;
    return state.status === "running" ? <Console of={state.console} /> : null;
  }
  const kept = chartsOf(cell);
  const nothing = !result.stdout && !result.stderr && !result.displays.length && result.outcome === "ok" && !Object.keys(kept).some((name) => name in result.values);
  if (nothing) return null;
  return (
    <section class="nb-out" aria-label={`Output of ${called(cells, cell.id)}`}>
      {how.kind === "stale" && <p class="note">{how.text}</p>}
      <Outputs place={{ notebook: bench.document.name, cell: cell.id, called: called(cells, cell.id) }} result={result} values={false} stamp={`${result.revision} ${result.seconds} ${result.outcome}`} charts={{ kept, keep: null }} />
      {result.outcome !== "ok" && <Failure result={result} />}
    </section>
  );
}
