// A notebook as this window sees it: the last revision of the server, and what was typed here since then.
// What is typed goes to the server a moment later, as edits of the revision that it was typed in. If others were
// faster, their revision is loaded, and the edits go on that one; where both changed a cell, a person decides.
import { computed, signal } from "@preact/signals";
import { ApiError, ask, get } from "../api";
import { known } from "../parts";
import { ROOT } from "../router";
import type { CellAnswer, NotebookAnswer } from "../types";
import { applied, asSent, rebase, SOMEBODY } from "./edits";
import type { Conflict, Draft, Op } from "./edits";

const PAUSE = 500;
const KEEP = 250;
const LONGEST = 15_000;
/** Texts without an answer that are remembered of a cell. */
const SENT = 20;

/** Whether all that was typed is in a revision. */
export type Saving = "saved" | "typed" | "saving" | "waiting" | "locked" | "refused" | "conflict";

const LATER = new Set([0, 408, 425, 429, 500, 502, 503, 504]);

export class NotebookDocument {
  readonly base = signal<NotebookAnswer>(null as unknown as NotebookAnswer);
  readonly pending = signal<Op[]>([]);
  readonly dirty = signal<ReadonlySet<string>>(new Set());
  readonly conflicts = signal<ReadonlyMap<string, Conflict>>(new Map());
  readonly state = signal<Saving>("saved");
  readonly refusal = signal<ApiError | null>(null);
  readonly told = signal<string[]>([]);
  readonly gone = signal(false);
  /** The member of the session that edits; null: none. */
  member: () => string | null = () => null;
  /** Sends edits of a revision by a socket; null: there is none. */
  send: (revision: number, edits: object[]) => Promise<NotebookAnswer> | null = () => null;
  /** Called when the session does not know the member. */
  stranger: () => void = () => undefined;
  /** Who changed a cell last, of those that are not this window. */
  readonly editors = new Map<string, string>();
  readonly cells = computed<CellAnswer[]>(() => applied(this.base.value.cells, this.pending.value));
  readonly title = computed(() => {
    const last = this.pending.value.findLast((op) => op.op === "describe");
    return last?.op === "describe" ? last.title : this.base.value.title;
  });

  private drafts = new Map<string, Draft>();
  private timer = 0;
  private keeping = 0;
  private wait = 1000;
  private pushing: Promise<boolean> | null = null;
  private loading: Promise<void> | null = null;
  private readonly key: string;

  constructor(
    readonly name: string,
    first: NotebookAnswer,
    readonly writes: boolean,
    who = "",
  ) {
    this.base.value = first;
    // Another person, or one of another tenant, in this tab must not send what this one typed.
    this.key = `notebook ${ROOT.pathname} ${who} ${name}`;
    if (writes) this.restore();
  }

  /** Return what a cell's source is here and now. */
  text(id: string): string {
    return this.drafts.get(id)?.text ?? this.cells.peek().find((cell) => cell.id === id)?.source ?? "";
  }

  /** Note what was typed in a cell. */
  type(id: string, text: string): void {
    const cell = this.cells.peek().find((one) => one.id === id);
    if (!cell) return;
    const draft = this.drafts.get(id);
    if (draft) draft.text = text;
    else this.drafts.set(id, { text, from: cell.source });
    if (!this.dirty.peek().has(id)) this.mark();
    this.later();
  }

  edit(...ops: Op[]): void {
    for (const op of ops) if (op.op === "delete") this.drafts.delete(op.id);
    this.pending.value = [...this.pending.peek(), ...ops];
    this.mark();
    this.later();
  }

  /** Take one of two texts of a cell; what is not taken stays in the history, or is told to the caller. */
  resolve(id: string, take: "mine" | "theirs"): void {
    const conflict = this.conflicts.peek().get(id);
    const draft = this.drafts.get(id);
    if (!conflict) return;
    if (take === "theirs") this.drafts.delete(id);
    else if (draft) draft.from = conflict.theirs;
    const left = new Map(this.conflicts.peek());
    left.delete(id);
    this.conflicts.value = left;
    this.mark();
    this.later();
  }

  /** Send what was typed; true: all of it is in a revision, besides cells that wait for a decision. */
  flush(): Promise<boolean> {
    clearTimeout(this.timer);
    if (!this.pushing) {
      this.pushing = this.push().finally(() => {
        this.pushing = null;
      });
      return this.pushing;
    }
    // What was typed since that request began needs another one.
    return this.pushing.then((done) => (done && this.unsent() ? this.flush() : done));
  }

  /** Load the latest revision, if it is another one. */
  reload(): Promise<void> {
    this.loading ??= (async () => {
      try {
        await this.pushing;
        await this.refresh();
      } finally {
        this.loading = null;
      }
    })();
    return this.loading;
  }

  unsaved(): boolean {
    return this.drafts.size > 0 || this.pending.peek().length > 0;
  }

  close(): void {
    clearTimeout(this.timer);
    this.keep();
    // The socket is about to close, and a request outlasts it.
    this.send = () => null;
    if (this.writes && this.unsaved()) void this.flush();
  }

  /** Keep what is not saved where a reload of the page finds it. */
  keep(): void {
    clearTimeout(this.keeping);
    this.keeping = 0;
    try {
      if (!this.unsaved()) sessionStorage.removeItem(this.key);
      else {
        const kept = { drafts: [...this.drafts], ops: this.pending.peek(), cells: this.base.peek().cells, revision: this.base.peek().revision };
        sessionStorage.setItem(this.key, JSON.stringify(kept));
      }
    } catch {
      // Without storage the text lasts as long as the page, and leaving it asks first.
    }
  }

  private restore(): void {
    try {
      const text = sessionStorage.getItem(this.key);
      if (text === null) return;
      const kept = JSON.parse(text) as { drafts: [string, Draft][]; ops: Op[]; cells: CellAnswer[]; revision: number };
      const fresh = this.base.peek();
      this.drafts = new Map(kept.drafts);
      this.pending.value = kept.ops;
      this.carry({ ...fresh, cells: kept.cells, revision: kept.revision }, fresh);
      if (this.unsaved()) this.told.value = [...this.told.peek(), "What you had typed before the page was loaded anew is there again."];
      this.later();
    } catch {
      // What cannot be read any more was not written by these pages.
    }
  }

  private later(pause = PAUSE): void {
    clearTimeout(this.timer);
    if (!this.keeping) this.keeping = window.setTimeout(() => this.keep(), KEEP);
    this.timer = window.setTimeout(() => void this.flush(), pause);
  }

  private mark(): void {
    this.dirty.value = new Set(this.drafts.keys());
    if (this.conflicts.peek().size) this.state.value = "conflict";
    else if (!this.unsaved()) this.state.value = "saved";
    else if (this.state.peek() === "saved" || this.state.peek() === "conflict") this.state.value = "typed";
  }

  private unsent(): boolean {
    const open = this.conflicts.peek();
    return this.pending.peek().length > 0 || [...this.drafts.keys()].some((id) => !open.has(id));
  }

  private async push(): Promise<boolean> {
    for (;;) {
      const ops = this.pending.peek();
      const open = this.conflicts.peek();
      const present = new Set(this.cells.peek().map(({ id }) => id));
      const sent = new Map([...this.drafts].filter(([id]) => present.has(id) && !open.has(id)).map(([id, { text }]) => [id, text]));
      if (!ops.length && !sent.size) {
        for (const id of [...this.drafts.keys()]) if (!present.has(id)) this.drafts.delete(id);
        this.mark();
        this.keep();
        return true;
      }
      this.state.value = "saving";
      const edits = [...ops.map(asSent), ...[...sent].map(([id, source]) => ({ op: "replace", id, source }))];
      const path = `/v1/notebooks/${encodeURIComponent(this.name)}/edits`;
      for (const [id, text] of sent) {
        const draft = this.drafts.get(id);
        if (draft && !draft.sent?.includes(text)) draft.sent = [...(draft.sent ?? []), text].slice(-SENT);
      }
      const member = this.member();
      try {
        const { revision } = this.base.peek();
        const answer = await (this.send(revision, edits) ?? ask<NotebookAnswer>("POST", path, JSON.stringify({ revision, edits, ...(member ? { member } : {}) })));
        for (const [id, text] of sent) {
          const draft = this.drafts.get(id);
          if (draft?.text === text) this.drafts.delete(id);
          else if (draft) this.drafts.set(id, { text: draft.text, from: text });
        }
        this.pending.value = this.pending.peek().slice(ops.length);
        this.base.value = reused(this.base.peek(), answer);
        this.wait = 1000;
        this.refusal.value = null;
        this.state.value = "saved";
        this.mark();
        this.keep();
      } catch (error) {
        const refused = known(error);
        try {
          if (refused.code === "not_joined" && member) {
            this.stranger();
            continue;
          }
          if (refused.code !== "revision_changed" && refused.code !== "cell_locked") throw refused;
          const before = this.base.peek().revision;
          await this.refresh();
          // Who has the lock may have changed nothing yet.
          if (refused.code === "cell_locked" && this.base.peek().revision === before) throw refused;
        } catch (later) {
          return this.failed(known(later));
        }
      }
    }
  }

  private failed(error: ApiError): boolean {
    this.refusal.value = error;
    const later = LATER.has(error.status) || error.code === "cell_locked";
    this.state.value = later ? (error.code === "cell_locked" ? "locked" : "waiting") : "refused";
    this.keep();
    if (error.status === 404) this.gone.value = true;
    else if (later) {
      const pause = Math.max(this.wait, (error.retryAfter ?? 0) * 1000);
      this.wait = Math.min(LONGEST, this.wait * 2);
      this.later(pause);
    }
    return false;
  }

  private async refresh(): Promise<void> {
    const fresh = await get<NotebookAnswer>(`/v1/notebooks/${encodeURIComponent(this.name)}`);
    const old = this.base.peek();
    if (fresh.revision <= old.revision) return;
    this.carry(old, fresh);
  }

  private carry(old: NotebookAnswer, fresh: NotebookAnswer): void {
    const found = rebase(old, fresh, this.pending.peek(), this.drafts, this.conflicts.peek());
    this.drafts = found.drafts;
    this.pending.value = found.ops;
    for (const [id, conflict] of found.conflicts) {
      if (conflict.by === SOMEBODY) found.conflicts.set(id, { ...conflict, by: this.editors.get(id) ?? SOMEBODY });
    }
    this.conflicts.value = found.conflicts;
    if (found.told.length) this.told.value = [...this.told.peek(), ...found.told];
    this.base.value = reused(this.base.peek(), fresh);
    this.mark();
  }
}

/** Return a revision with the objects of an older one where they are equal: what shows them has nothing to do. */
function reused(old: NotebookAnswer, fresh: NotebookAnswer): NotebookAnswer {
  return { ...fresh, cells: same(old.cells, fresh.cells), dag: { ...fresh.dag, cells: same(old.dag.cells, fresh.dag.cells) } };
}

function same<T extends { id: string }>(old: T[], fresh: T[]): T[] {
  const known = new Map(old.map((one) => [one.id, one]));
  return fresh.map((one) => {
    const before = known.get(one.id);
    return before && JSON.stringify(before) === JSON.stringify(one) ? before : one;
  });
}

/** Return an id for a new cell. */
export function newId(): string {
  return [...crypto.getRandomValues(new Uint8Array(6))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
