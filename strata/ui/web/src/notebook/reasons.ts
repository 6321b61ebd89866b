// Why a cell is stale, in words.
import type { CellAnswer, SessionCellAnswer, StaleReasonAnswer } from "../types";

/** Return what a cell is called: its name, or its place. */
export function called(cells: readonly CellAnswer[], id: string | null): string {
  const at = cells.findIndex((cell) => cell.id === id);
  const cell = cells[at];
  if (!cell) return "a cell that is gone";
  const annotated = /^(?:#|--) @name\s+(\S+)/m.exec(cell.source)?.[1];
  return annotated ?? cell.name ?? `cell ${at + 1}`;
}

export function why(reason: StaleReasonAnswer, cells: readonly CellAnswer[]): string {
  const from = called(cells, reason.cell);
  switch (reason.because) {
    case "never_run":
      return "it has not run";
    case "failed":
      return "its last run failed";
    case "source_changed":
      return "its source has changed since";
    case "input_changed":
      return reason.name === "@tables" || reason.name === null ? "a table that it reads has changed" : `${reason.name} of ${from} has changed`;
    case "upstream_stale":
      return reason.name ? `${reason.name} comes from ${from}, which is stale` : `it needs ${from}, which is stale`;
    default:
      return reason.because;
  }
}

export interface Summary {
  kind: "running" | "queued" | "stale" | "new" | "failed" | "good" | "hidden" | "none";
  word: string;
  text: string;
}

/** Say in a word, and in a sentence, how a cell stands. */
export function summary(cell: SessionCellAnswer | null, status: string, typed: boolean, cells: readonly CellAnswer[]): Summary {
  if (status === "running") return { kind: "running", word: "running", text: "It runs now." };
  if (status === "queued") return { kind: "queued", word: "waits", text: "It waits for its turn." };
  if (!cell) return { kind: "new", word: "not run", text: "It has not run." };
  if (cell.hidden) return { kind: "hidden", word: "hidden", text: "Its results come from tables that you may not read." };
  const never = cell.stale.some(({ because }) => because === "never_run");
  if (never) return { kind: "new", word: "not run", text: "It has not run." };
  const failed = cell.result !== null && cell.result.outcome !== "ok";
  const reasons = cell.stale.filter(({ because }) => because !== "failed").map((reason) => why(reason, cells));
  if (typed && !reasons.length) reasons.push("its source has changed since");
  if (reasons.length) return { kind: "stale", word: "stale", text: `Stale: ${reasons.join("; ")}.` };
  if (failed) return { kind: "failed", word: "failed", text: "Its last run failed." };
  return { kind: "good", word: "current", text: "Its results are those of its source and its inputs." };
}
