// Edits that were made in this window and are not in a revision yet, and how they go on another revision.
import type { CellAnswer, NotebookAnswer } from "../types";

export interface Insert {
  op: "insert";
  id: string;
  after: string | null;
  language: string;
  source: string;
  name: string | null;
  metadata: Record<string, unknown>;
}

export interface Remove {
  op: "delete";
  id: string;
  /** The source that was in sight when it was deleted: another one is not deleted. Not sent. */
  seen: string;
}

export interface Move {
  op: "move";
  id: string;
  after: string | null;
}

/** Another language or other metadata of a cell. */
export interface Turn {
  op: "replace";
  id: string;
  language?: string;
  metadata?: Record<string, unknown>;
}

export interface Describe {
  op: "describe";
  title: string;
}

export type Op = Insert | Remove | Move | Turn | Describe;

/** A source that was typed here; `from` is the one that it began with. */
export interface Draft {
  text: string;
  from: string;
  /** What was sent of it without an answer: it may be what the server has. */
  sent?: string[];
}

/** What another person made of a cell that was typed in here, too. */
export interface Conflict {
  theirs: string;
  by: string;
}

/** Stands for a person who is not known. */
export const SOMEBODY = "another person";

/** Return the cells with edits applied. */
export function applied(cells: CellAnswer[], ops: readonly Op[]): CellAnswer[] {
  const found = [...cells];
  const place = (after: string | null) => (after === null ? 0 : found.findIndex(({ id }) => id === after) + 1);
  for (const op of ops) {
    if (op.op === "describe") continue;
    const at = found.findIndex(({ id }) => id === op.id);
    const cell = found[at];
    if (op.op === "insert") {
      const { id, language, source, name, metadata } = op;
      if (!cell) found.splice(place(op.after), 0, { id, language, source, name, metadata });
    } else if (!cell) continue;
    else if (op.op === "delete") found.splice(at, 1);
    else if (op.op === "replace") found[at] = { ...cell, language: op.language ?? cell.language, metadata: op.metadata ?? cell.metadata };
    else {
      found.splice(at, 1);
      found.splice(place(op.after), 0, cell);
    }
  }
  return found;
}

/** Return an edit as the API takes it. */
export function asSent(op: Op): object {
  if (op.op !== "delete") return op;
  return { op: "delete", id: op.id };
}

export interface Rebased {
  ops: Op[];
  drafts: Map<string, Draft>;
  conflicts: Map<string, Conflict>;
  /** Sentences for the person about edits that were given up. */
  told: string[];
}

type Metadata = Record<string, unknown>;

/** Return whether two values of metadata are the same; the order of keys does not count. */
function same(one: unknown, other: unknown): boolean {
  if (!isRecord(one) || !isRecord(other)) return JSON.stringify(one) === JSON.stringify(other);
  return [...new Set([...Object.keys(one), ...Object.keys(other)])].every((key) => same(one[key], other[key]));
}

function isRecord(value: unknown): value is Metadata {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * Return the metadata of a cell with what was changed here, and what others changed elsewhere in it: charts of
 * two people are both kept. Of one key that both changed, ours counts.
 */
export function joined(base: Metadata = {}, ours: Metadata, theirs: Metadata = base): Metadata {
  const found: Metadata = {};
  for (const key of new Set([...Object.keys(theirs), ...Object.keys(ours)])) {
    const [was, own, other] = [base[key], ours[key], theirs[key]];
    let value = same(was, own) ? other : own;
    // Of "charts" and the like, in which each name is something of its own.
    if (isRecord(other) && (isRecord(own) || (own === undefined && isRecord(was)))) {
      const both = joined(isRecord(was) ? was : {}, own ?? {}, other);
      value = own === undefined && !Object.keys(both).length ? undefined : both;
    }
    if (value !== undefined) found[key] = value;
  }
  return found;
}

/**
 * Carry edits over to a newer revision: nothing that was typed is lost, and nothing that others made is replaced
 * without being seen.
 */
export function rebase(
  old: NotebookAnswer,
  fresh: NotebookAnswer,
  ops: readonly Op[],
  drafts: ReadonlyMap<string, Draft>,
  conflicts: ReadonlyMap<string, Conflict>,
): Rebased {
  const there = new Map(fresh.cells.map((cell) => [cell.id, cell]));
  const before = new Map(old.cells.map((cell) => [cell.id, cell]));
  const by = fresh.revision === old.revision + 1 ? fresh.author : SOMEBODY;
  const kept: Op[] = [];
  const told: string[] = [];
  const made = new Set<string>();
  const cut = new Set<string>();
  const order = applied(old.cells, ops).map(({ id }) => id);
  const behind = (after: string | null, self: string): string | null => {
    if (after === null || there.has(after) || made.has(after)) return after;
    let at = order.indexOf(after);
    if (at < 0) at = order.indexOf(self);
    for (at -= 1; at >= 0; at--) {
      const id = order[at];
      if (id !== undefined && id !== self && (there.has(id) || made.has(id))) return id;
    }
    return fresh.cells.at(-1)?.id ?? null;
  };
  for (const op of ops) {
    if (op.op === "describe") {
      if (fresh.title !== op.title) kept.push(op);
    } else if (op.op === "insert") {
      if (there.has(op.id) && !cut.has(op.id)) continue;
      cut.delete(op.id);
      kept.push({ ...op, after: behind(op.after, op.id) });
      made.add(op.id);
    } else if (!there.has(op.id) && !made.has(op.id)) continue;
    else if (op.op === "delete") {
      const found = there.get(op.id);
      if (found && found.source !== op.seen) told.push(`The cell was not deleted: ${by} has changed it.`);
      else {
        kept.push(op);
        cut.add(op.id);
        made.delete(op.id);
      }
    } else if (op.op === "move") kept.push({ ...op, after: behind(op.after, op.id) });
    else kept.push(op.metadata ? { ...op, metadata: joined(before.get(op.id)?.metadata, op.metadata, there.get(op.id)?.metadata) } : op);
  }
  const left = new Map<string, Draft>();
  const raced = new Map<string, Conflict>();
  for (const [id, draft] of drafts) {
    const theirs = there.get(id);
    if (cut.has(id)) continue;
    if (made.has(id)) {
      left.set(id, draft);
    } else if (!theirs) {
      const cell = before.get(id);
      const at = old.cells.findIndex((one) => one.id === id);
      const after = behind(old.cells[at - 1]?.id ?? null, id);
      kept.push({ op: "insert", id, after, language: cell?.language ?? "python", source: draft.text, name: cell?.name ?? null, metadata: cell?.metadata ?? {} });
      made.add(id);
      told.push(`${by} deleted a cell that you were typing in. It is there again, with your text.`);
    } else if (theirs.source === draft.text) continue;
    else {
      // An answer that was lost on its way: it is this window's own text.
      const own = draft.sent?.includes(theirs.source) ?? false;
      left.set(id, own ? { text: draft.text, from: theirs.source } : draft);
      if (!own && theirs.source !== draft.from) raced.set(id, { theirs: theirs.source, by });
    }
  }
  for (const [id, conflict] of conflicts) {
    // Who it was is known from the first time on.
    const again = raced.get(id);
    if (again && again.theirs === conflict.theirs) raced.set(id, conflict);
  }
  return { ops: kept, drafts: left, conflicts: raced, told };
}

/** Return the edits that make the cells of a revision into those of another one. */
export function turnedInto(now: readonly CellAnswer[], then: readonly CellAnswer[]): object[] {
  const found: object[] = [];
  const wanted = new Set(then.map(({ id }) => id));
  const there = new Map(now.map((cell) => [cell.id, cell]));
  for (const { id } of now) if (!wanted.has(id)) found.push({ op: "delete", id });
  // The order that the cells have after the edits so far.
  const order = now.flatMap(({ id }) => (wanted.has(id) ? [id] : []));
  let after: string | null = null;
  for (const [place, cell] of then.entries()) {
    const { id, source, language, name, metadata } = cell;
    const old = there.get(id);
    if (!old) {
      found.push({ op: "insert", id, after, source, language, name, metadata });
      order.splice(place, 0, id);
    } else {
      if (order[place] !== id) {
        found.push({ op: "move", id, after });
        order.splice(order.indexOf(id), 1);
        order.splice(place, 0, id);
      }
      if (old.source !== source || old.language !== language || (old.name ?? "") !== (name ?? "") || !same(old.metadata, metadata)) {
        found.push({ op: "replace", id, source, language, name: name ?? "", metadata });
      }
    }
    after = id;
  }
  return found;
}
