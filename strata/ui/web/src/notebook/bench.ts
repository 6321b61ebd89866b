// What a person does with a notebook: select, edit, run, move; the same for mouse and keyboard.
import { signal } from "@preact/signals";
import { get } from "../api";
import type { ApiError } from "../api";
import { known } from "../parts";
import { types } from "../schema";
import type { CellAnswer, TableAnswer } from "../types";
import type { NotebookDocument } from "./document";
import { newId } from "./document";
import type { Editor, Options } from "./editor";
import type { Insert } from "./edits";
import type { NotebookSession } from "./session";

const TWICE = 700;

/** Tables whose columns are offered. */
const MOST_TABLES = 5;
const TABLES = /\bfetch\(\s*["']([^"'\n]+)["']|@table\s+\w+\s+(\S+)/g;

/** Id of the element that has the cells, and the keys while no cell has them. */
export const KEYS = "notebook-cells";

/** Return the charts that a cell keeps, by the names of its values. */
export function chartsOf(cell: CellAnswer): Record<string, unknown> {
  const found = cell.metadata["charts"];
  return typeof found === "object" && found !== null && !Array.isArray(found) ? (found as Record<string, unknown>) : {};
}

export class Workbench {
  readonly selected = signal<string | null>(null);
  readonly editing = signal(false);
  /** The cell whose editor has to be there now, wherever it is on the page. */
  readonly wanted = signal<string | null>(null);
  readonly error = signal<ApiError | null>(null);
  readonly help = signal(false);
  readonly announced = signal("");

  private editors = new Map<string, Editor>();
  private deleted: Insert[] = [];
  private copied: CellAnswer | null = null;
  private typed = "";
  private readonly tables = new Map<string, Promise<Record<string, string>>>();
  private last: { key: string; at: number } = { key: "", at: 0 };

  constructor(
    readonly document: NotebookDocument,
    readonly session: NotebookSession,
    readonly executes: boolean,
  ) {}

  // Where one is

  select(id: string | null, editing: boolean): void {
    this.selected.value = id;
    this.editing.value = editing;
    this.session.presence.look(id);
  }

  /** Select a cell, bring it into sight and give it the focus, for the keys of the notebook. */
  show(id: string | null): void {
    if (id === null) return;
    this.wanted.value = null;
    this.select(id, false);
    const focus = () => {
      if (this.selected.peek() !== id || this.editing.peek()) return true;
      const element = document.getElementById(`cell-${id}`);
      element?.focus({ preventScroll: true });
      element?.scrollIntoView({ block: "nearest" });
      return element !== null;
    };
    if (focus()) return;
    this.between();
    requestAnimationFrame(focus);
  }

  /** Take the keys until the cell, or the editor, that they are for is there. */
  private between(): void {
    document.getElementById(KEYS)?.focus({ preventScroll: true });
  }

  edit(id: string, at?: "start" | "end"): void {
    this.select(id, true);
    const editor = this.editors.get(id);
    if (editor) {
      editor.focus(at);
      return;
    }
    this.typed = "";
    this.wanted.value = id;
    this.between();
  }

  register(id: string, editor: Editor): void {
    this.editors.set(id, editor);
    if (this.wanted.peek() !== id) return;
    this.wanted.value = null;
    if (this.selected.peek() !== id) return;
    this.editing.value = true;
    editor.focus("end");
    if (this.typed) editor.type(this.typed);
    this.typed = "";
  }

  /** Keep a key that was meant for an editor that is not there yet. */
  private ahead(event: KeyboardEvent): boolean {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.document.writes) return false;
    if (event.key === "Enter" && event.shiftKey) return false;
    if (event.key === "Enter") this.typed += "\n";
    else if (event.key === "Tab") this.typed += "    ";
    else if (event.key === "Backspace") this.typed = this.typed.slice(0, -1);
    else if (event.key.length === 1) this.typed += event.key;
    else return false;
    return true;
  }

  forget(id: string, editor: Editor): void {
    if (this.editors.get(id) === editor) this.editors.delete(id);
  }

  goTo(id: string, line: number): void {
    this.select(id, true);
    this.editors.get(id)?.goTo(line);
  }

  private at(id: string | null): number {
    return this.document.cells.peek().findIndex((cell) => cell.id === id);
  }

  private neighbour(id: string, step: number): string | null {
    return this.document.cells.peek()[this.at(id) + step]?.id ?? null;
  }

  // Changes

  /** Insert a cell at a place, and return its id. */
  insert(place: number, language = "python", source = "", edit = false): string {
    const cells = this.document.cells.peek();
    const id = newId();
    const after = place > 0 ? (cells[Math.min(place, cells.length) - 1]?.id ?? null) : null;
    this.document.edit({ op: "insert", id, after, language, source, name: null, metadata: {} });
    if (edit) this.edit(id);
    else this.show(id);
    this.announced.value = "Cell added.";
    return id;
  }

  remove(id: string): void {
    const at = this.at(id);
    const cell = this.document.cells.peek()[at];
    if (!cell) return;
    const source = this.document.text(id);
    const after = this.neighbour(id, -1);
    const next = this.neighbour(id, 1) ?? after;
    this.deleted.push({ op: "insert", id, after, language: cell.language, source, name: cell.name, metadata: cell.metadata });
    this.document.edit({ op: "delete", id, seen: cell.source });
    this.show(next);
    this.announced.value = `Cell ${at + 1} deleted. Z takes it back.`;
  }

  restore(): void {
    const last = this.deleted.pop();
    if (!last || this.at(last.id) >= 0) return;
    this.document.edit({ ...last, after: this.at(last.after) >= 0 ? last.after : null });
    this.show(last.id);
    this.announced.value = "The deleted cell is there again.";
  }

  move(id: string, step: -1 | 1): void {
    const cells = this.document.cells.peek();
    const at = this.at(id);
    const to = at + step;
    if (at < 0 || to < 0 || to >= cells.length) return;
    const after = step < 0 ? (cells[to - 1]?.id ?? null) : (cells[to]?.id ?? null);
    this.document.edit({ op: "move", id, after });
    this.show(id);
    this.announced.value = `Cell moved to place ${to + 1}.`;
  }

  turn(id: string, language: string): void {
    const cell = this.document.cells.peek()[this.at(id)];
    if (!cell || cell.language === language) return;
    this.document.edit({ op: "replace", id, language });
    this.announced.value = `The cell is ${language} now.`;
  }

  /** Keep a chart of a value of a cell with the cell; null: none. */
  chart(id: string, name: string, chart: object | null): void {
    const cell = this.document.cells.peek()[this.at(id)];
    if (!cell) return;
    const charts = new Map(Object.entries(chartsOf(cell)));
    if (chart) charts.set(name, chart);
    else charts.delete(name);
    const { charts: _, ...others } = cell.metadata;
    const metadata = charts.size ? { ...others, charts: Object.fromEntries(charts) } : others;
    this.document.edit({ op: "replace", id, metadata });
    this.announced.value = chart ? `The chart of ${name} is kept.` : `The chart of ${name} is removed.`;
  }

  resolve(id: string, take: "mine" | "theirs" | "both"): void {
    const theirs = this.document.conflicts.peek().get(id)?.theirs ?? "";
    const cell = this.document.cells.peek()[this.at(id)];
    if (take === "both" && cell) {
      const after = id;
      this.document.edit({ op: "insert", id: newId(), after, language: cell.language, source: theirs, name: null, metadata: {} });
    }
    this.document.resolve(id, take === "theirs" ? "theirs" : "mine");
    if (take === "theirs") this.editors.get(id)?.set(theirs);
    this.show(id);
  }

  // Runs

  /** Save what was typed, and return whether a run would have it; says so if not. */
  async saved(): Promise<boolean> {
    if (!this.document.writes) return true;
    const done = await this.document.flush();
    if (!done) this.announced.value = "Not run: what you typed could not be saved.";
    else if (this.document.conflicts.peek().size) this.announced.value = "Not run: choose a text first.";
    return done && !this.document.conflicts.peek().size;
  }

  async run(cells: string[] | null, force = false): Promise<void> {
    if (!this.executes) return;
    try {
      if (this.document.writes && !(await this.document.flush())) {
        this.announced.value = "Not run: what you typed could not be saved.";
        return;
      }
      if (cells?.some((id) => this.document.conflicts.peek().has(id))) {
        this.announced.value = "Not run: choose a text first.";
        return;
      }
      await this.session.run(cells, force);
      this.error.value = null;
    } catch (error) {
      this.error.value = known(error);
    }
  }

  async interrupt(): Promise<void> {
    try {
      await this.session.interrupt();
      this.error.value = null;
    } catch (error) {
      this.error.value = known(error);
    }
  }

  private runCell(id: string, then: "next" | "stay" | "add"): void {
    const cell = this.document.cells.peek()[this.at(id)];
    if (!cell) return;
    if (cell.language !== "markdown" && this.document.text(id).trim()) void this.run([id]);
    if (then === "stay") this.show(id);
    else if (then === "add" || this.neighbour(id, 1) === null) {
      if (this.document.writes) this.insert(this.at(id) + 1, cell.language === "markdown" ? "python" : cell.language, "", true);
      else this.show(id);
    } else this.show(this.neighbour(id, 1));
  }

  // Keys

  /** A key of the notebook within an editor. */
  key(id: string, key: Parameters<Options["onKey"]>[0]): boolean {
    if (key === "run") this.runCell(id, "next");
    else if (key === "run and stay") this.runCell(id, "stay");
    else if (key === "run and add") this.runCell(id, "add");
    else if (key === "leave") this.show(id);
    else {
      const next = this.neighbour(id, key === "above" ? -1 : 1);
      if (next === null) return false;
      const cell = this.document.cells.peek()[this.at(next)];
      if (cell?.language === "markdown") this.show(next);
      else this.edit(next, key === "above" ? "end" : "start");
    }
    return true;
  }

  /** A key while a cell has the focus, and not its editor; true: it was used. */
  command(event: KeyboardEvent): boolean {
    const id = this.selected.peek();
    if (id === null || this.at(id) < 0) return false;
    if (this.wanted.peek() === id) {
      if (this.ahead(event)) return true;
      if (["Shift", "Control", "Alt", "Meta"].includes(event.key)) return false;
      // A key of the notebook: the editor is left before it is there.
      if (this.typed) this.document.type(id, this.document.text(id) + this.typed);
      this.typed = "";
      this.show(id);
      if (event.key === "Escape") return true;
    }
    const writes = this.document.writes;
    const { key } = event;
    if (event.metaKey || (event.ctrlKey && key !== "Enter")) return false;
    const twice = this.last.key === key && Date.now() - this.last.at < TWICE;
    this.last = { key, at: twice ? 0 : Date.now() };
    if (event.altKey) {
      if (key === "Enter") this.runCell(id, "add");
      else if (writes && key === "ArrowUp") this.move(id, -1);
      else if (writes && key === "ArrowDown") this.move(id, 1);
      else return false;
      return true;
    }
    switch (key) {
      case "Enter":
        if (event.shiftKey) this.runCell(id, "next");
        else if (event.ctrlKey) this.runCell(id, "stay");
        else this.edit(id);
        return true;
      case "ArrowUp":
      case "k":
        this.show(this.neighbour(id, -1));
        return true;
      case "ArrowDown":
      case "j":
        this.show(this.neighbour(id, 1));
        return true;
      case "Home":
        this.show(this.document.cells.peek()[0]?.id ?? null);
        return true;
      case "End":
        this.show(this.document.cells.peek().at(-1)?.id ?? null);
        return true;
      case "i":
        if (twice) void this.interrupt();
        return true;
      case "?":
      case "h":
        this.help.value = true;
        return true;
      case "c":
        this.copied = { ...(this.document.cells.peek()[this.at(id)] as CellAnswer), source: this.document.text(id) };
        this.announced.value = "Cell copied.";
        return true;
      default:
        return writes && this.change(key, id, twice);
    }
  }

  private change(key: string, id: string, twice: boolean): boolean {
    if (key === "a") this.insert(this.at(id));
    else if (key === "b") this.insert(this.at(id) + 1);
    else if (key === "d") {
      if (twice) this.remove(id);
    } else if (key === "x") {
      this.copied = { ...(this.document.cells.peek()[this.at(id)] as CellAnswer), source: this.document.text(id) };
      this.remove(id);
    } else if (key === "v") {
      if (this.copied) this.insert(this.at(id) + 1, this.copied.language, this.copied.source);
    } else if (key === "z") this.restore();
    else if (key === "m") this.turn(id, "markdown");
    else if (key === "y") this.turn(id, "python");
    else if (key === "s") this.turn(id, "sql");
    else return false;
    return true;
  }

  /** Columns of the tables that a cell reads, and those before it. */
  async columnsFor(id: string): Promise<{ label: string; detail: string; type: string }[]> {
    const cells = this.document.cells.peek().slice(0, this.at(id) + 1);
    const uris = cells.flatMap((cell) => [...this.document.text(cell.id).matchAll(TABLES)].map((one) => one[1] ?? one[2] ?? ""));
    const found = new Map<string, { label: string; detail: string; type: string }>();
    for (const uri of [...new Set(uris)].slice(-MOST_TABLES)) {
      let asked = this.tables.get(uri);
      if (!asked) {
        asked = get<TableAnswer>("/v1/tables/describe", { uri }).then(({ schema }) => types(schema));
        this.tables.set(uri, asked);
        // What failed is asked again with the next key.
        asked.catch(() => this.tables.delete(uri));
      }
      const columns = await asked.catch(() => ({}));
      for (const [label, detail] of Object.entries(columns)) found.set(label, { label, detail, type: "property" });
    }
    return [...found.values()];
  }

  /** Names that a cell can use: those that earlier cells define. */
  namesFor(id: string): { label: string; detail: string; type: string }[] {
    const cells = this.document.cells.peek();
    const at = this.at(id);
    const nodes = new Map(this.document.base.peek().dag.cells.map((node) => [node.id, node]));
    const found = new Map<string, string>();
    for (const [place, cell] of cells.slice(0, Math.max(0, at)).entries()) {
      const types = this.session.of(cell.id).peek().found?.result?.values ?? {};
      for (const name of nodes.get(cell.id)?.defines ?? []) found.set(name, types[name]?.type ?? `cell ${place + 1}`);
    }
    return [...found].map(([label, detail]) => ({ label, detail, type: "variable" }));
  }
}
