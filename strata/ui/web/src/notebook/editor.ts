// The editor of a cell: CodeMirror in a shadow root, so that its styles are constructed sheets, which the
// pages' policy allows, and no inline ones. This module and all of CodeMirror are one chunk, loaded when needed.
import { acceptCompletion, autocompletion, closeBrackets, closeBracketsKeymap, closeCompletion, completionKeymap, completionStatus, moveCompletionSelection, selectedCompletionIndex } from "@codemirror/autocomplete";
import type { Completion, CompletionContext, CompletionResult } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap, indentWithTab } from "@codemirror/commands";
import { python } from "@codemirror/lang-python";
import { PostgreSQL, sql } from "@codemirror/lang-sql";
import { bracketMatching, defineLanguageFacet, HighlightStyle, indentOnInput, indentUnit, Language, languageDataProp, syntaxHighlighting } from "@codemirror/language";
import { Annotation, Compartment, EditorState, Prec, StateEffect, StateField, Transaction } from "@codemirror/state";
import type { Extension } from "@codemirror/state";
import { Decoration, EditorView, highlightActiveLine, keymap, lineNumbers, placeholder } from "@codemirror/view";
import type { DecorationSet, ViewUpdate } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { GFM, parser } from "@lezer/markdown";

export interface Mark {
  line: number;
  message: string;
  severity: string;
}

export interface Options {
  text: string;
  language: string;
  label: string;
  readOnly: boolean;
  hint: string;
  /** Names that the cell can use, besides its own. */
  names: () => Completion[];
  /** Asks for the names that begin with a text within quotes: tables. */
  tables: (prefix: string, stop: AbortSignal) => Promise<Completion[]>;
  /** Asks for the columns of the tables that the cell reads. */
  columns: (stop: AbortSignal) => Promise<Completion[]>;
  onText: (text: string) => void;
  onFocus: () => void;
  /** Called for keys that are the notebook's; true: it was used. */
  onKey: (key: "run" | "run and stay" | "run and add" | "leave" | "above" | "below") => boolean;
}

export interface Editor {
  focus: (at?: "start" | "end") => void;
  set: (text: string) => void;
  /** Put a text where the cursor is, as if it were typed. */
  type: (text: string) => void;
  language: (language: string) => void;
  mark: (marks: Mark[]) => void;
  label: (label: string) => void;
  goTo: (line: number) => void;
  close: () => void;
}

const fromServer = Annotation.define<boolean>();
const setMarks = StateEffect.define<Mark[]>();

const marks = StateField.define<DecorationSet>({
  create: () => Decoration.none,
  update(found, change) {
    let next = found.map(change.changes);
    for (const effect of change.effects) {
      if (!effect.is(setMarks)) continue;
      const lines = effect.value.filter(({ line }) => line >= 1 && line <= change.state.doc.lines);
      next = Decoration.set(
        lines.map(({ line, message, severity }) =>
          Decoration.line({ class: `cm-marked cm-marked-${severity}`, attributes: { title: message } }).range(change.state.doc.line(line).from),
        ),
        true,
      );
    }
    return next;
  },
  provide: (field) => EditorView.decorations.from(field),
});

const data = defineLanguageFacet({});
const markdown = new Language(data, parser.configure([GFM, { props: [languageDataProp.add({ Document: data })] }]), [], "markdown");

function languageOf(name: string): Extension {
  if (name === "sql") return sql({ dialect: PostgreSQL, upperCaseKeywords: true });
  if (name === "markdown") return markdown;
  return python();
}

const colours = HighlightStyle.define([
  { tag: [tags.keyword, tags.operatorKeyword, tags.controlKeyword, tags.modifier], color: "var(--code-keyword)" },
  { tag: [tags.string, tags.special(tags.string), tags.regexp], color: "var(--code-string)" },
  { tag: [tags.number, tags.bool, tags.null], color: "var(--code-number)" },
  { tag: [tags.comment, tags.meta], color: "var(--quiet)", fontStyle: "italic" },
  { tag: [tags.function(tags.variableName), tags.function(tags.propertyName), tags.definition(tags.variableName)], color: "var(--code-name)" },
  { tag: [tags.typeName, tags.className], color: "var(--code-type)" },
  { tag: tags.heading, fontWeight: "700" },
  { tag: tags.strong, fontWeight: "700" },
  { tag: tags.emphasis, fontStyle: "italic" },
  { tag: [tags.link, tags.url], color: "var(--accent)" },
  { tag: tags.monospace, color: "var(--code-string)" },
  { tag: [tags.processingInstruction, tags.quote], color: "var(--quiet)" },
]);

const look = EditorView.theme({
  "&": { color: "var(--ink)", backgroundColor: "transparent", fontSize: "13.5px" },
  "&.cm-focused": { outline: "none" },
  ".cm-scroller": { fontFamily: "var(--mono)", lineHeight: "1.55" },
  ".cm-content": { padding: "8px 0", caretColor: "var(--ink)" },
  ".cm-cursor, .cm-dropCursor": { borderLeftColor: "var(--ink)" },
  ".cm-gutters": { backgroundColor: "transparent", color: "var(--quiet)", border: "none", minWidth: "2.6em" },
  ".cm-lineNumbers .cm-gutterElement": { padding: "0 8px 0 4px", fontSize: "11px" },
  ".cm-activeLine": { backgroundColor: "transparent" },
  "&.cm-focused .cm-activeLine": { backgroundColor: "color-mix(in srgb, var(--accent-soft) 45%, transparent)" },
  ".cm-selectionBackground, &.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground": { backgroundColor: "var(--code-selection)" },
  ".cm-content ::selection, .cm-content::selection": { backgroundColor: "var(--code-selection)" },
  ".cm-placeholder": { color: "var(--quiet)" },
  ".cm-matchingBracket, &.cm-focused .cm-matchingBracket": { backgroundColor: "var(--accent-soft)", outline: "1px solid var(--accent)" },
  ".cm-marked-error": { boxShadow: "inset 3px 0 var(--bad)", backgroundColor: "var(--bad-soft) !important" },
  ".cm-marked-warn": { boxShadow: "inset 3px 0 var(--warn)" },
  ".cm-tooltip": { backgroundColor: "var(--raised)", color: "var(--ink)", border: "1px solid var(--line)", borderRadius: "7px", overflow: "hidden" },
  ".cm-tooltip.cm-tooltip-autocomplete > ul": { fontFamily: "var(--mono)", maxHeight: "14em" },
  ".cm-tooltip.cm-tooltip-autocomplete > ul > li[aria-selected]": { backgroundColor: "var(--accent)", color: "var(--on-accent)" },
  ".cm-completionDetail": { color: "inherit", opacity: "0.75", fontStyle: "normal" },
});

/** Editors in which Tab was pressed while the list in sight was being renewed: it takes from the new one. */
const waiting = new WeakSet<EditorView>();

/** Take the first name that is offered, or the one that was chosen. Enter takes only one that was chosen. */
function complete(view: EditorView): boolean {
  const status = completionStatus(view.state);
  if (status === "pending" && view.dom.querySelector(".cm-tooltip-autocomplete")) {
    waiting.add(view);
    return true;
  }
  if (status !== "active") return false;
  if ((selectedCompletionIndex(view.state) ?? -1) < 0) moveCompletionSelection(true)(view);
  return acceptCompletion(view);
}

/** Do what Tab was pressed for, once the list is there, or nothing is offered; any other key comes before it. */
function goOn({ view, state, docChanged, selectionSet }: ViewUpdate): void {
  if (!waiting.has(view)) return;
  if (docChanged || selectionSet || !view.hasFocus) waiting.delete(view);
  else if (completionStatus(state) !== "pending") {
    waiting.delete(view);
    // Within an update there can be no other one.
    setTimeout(() => view.state === state && (complete(view) || indentWithTab.run?.(view)));
  }
}

const QUOTED = /(["'`])([A-Za-z_][\w:./ -]*)$/;

/** The beginning of a column's name in what `strata.fetch` takes: columns=["a", "b or filters=[("c. */
const COLUMN = /\b(?:columns\s*=\s*\[(?:\s*["'][^"']*["']\s*,)*|filters\s*=\s*\[(?:[^[\]]*,)?\s*\()\s*["'][^"']*$/;

function completions(options: Options) {
  return async (context: CompletionContext): Promise<CompletionResult | null> => {
    const stop = new AbortController();
    context.addEventListener("abort", () => stop.abort());
    const line = context.state.doc.lineAt(context.pos);
    const before = line.text.slice(0, context.pos - line.from);
    const annotated = /^\s*(#|--)\s*@table\s+\w+\s+(\S*)$/.exec(before);
    const quoted = annotated ?? (/\bfetch\(\s*$/.test(before.replace(QUOTED, "")) ? QUOTED.exec(before) : null);
    if (quoted) {
      const typed = quoted[2] ?? "";
      const found = await options.tables(typed, stop.signal).catch(() => []);
      return found.length ? { from: context.pos - typed.length, options: found, validFor: /^[\w:.-]*$/ } : null;
    }
    const column = COLUMN.test(context.state.sliceDoc(Math.max(0, context.pos - 500), context.pos)) ? /["']([^"']*)$/.exec(before) : null;
    if (column) {
      const found = await options.columns(stop.signal).catch(() => []);
      return found.length ? { from: context.pos - (column[1] ?? "").length, options: found, validFor: /^[^"']*$/ } : null;
    }
    const word = context.matchBefore(/[A-Za-z_]\w*/);
    if (!word && !context.explicit) return null;
    const columns = options.language === "sql" ? await options.columns(stop.signal).catch(() => []) : [];
    const found = [...options.names(), ...columns];
    return found.length ? { from: word?.from ?? context.pos, options: found, validFor: /^\w*$/ } : null;
  };
}

export function open(host: HTMLElement, options: Options): Editor {
  const root = host.shadowRoot ?? host.attachShadow({ mode: "open" });
  // The same source each time: another one would be asked anew for ever.
  const offers = [{ autocomplete: completions(options) }];
  const language = new Compartment();
  const label = new Compartment();
  // Tab indents within the editor, so it must not lead there: Enter does, and Tab goes on to what is below.
  const labelled = (text: string) => EditorView.contentAttributes.of({ "aria-label": text, tabindex: "-1" });
  const key = (name: Parameters<Options["onKey"]>[0]) => () => options.onKey(name);
  const at = (edge: "first" | "last", name: "above" | "below") => (view: EditorView) => {
    const { state } = view;
    if (!state.selection.main.empty || completionStatus(state) === "active") return false;
    const line = state.doc.lineAt(state.selection.main.head).number;
    return line === (edge === "first" ? 1 : state.doc.lines) && options.onKey(name);
  };
  const view = new EditorView({
    root,
    parent: root,
    state: EditorState.create({
      doc: options.text,
      extensions: [
        Prec.highest(
          keymap.of([
            { key: "Shift-Enter", run: key("run") },
            { key: "Mod-Enter", run: key("run and stay") },
            { key: "Ctrl-Enter", run: key("run and stay") },
            { key: "Alt-Enter", run: key("run and add") },
            { key: "Escape", run: (here) => completionStatus(here.state) !== "active" && options.onKey("leave") },
            { key: "ArrowUp", run: at("first", "above") },
            { key: "ArrowDown", run: at("last", "below") },
            { key: "Tab", run: complete },
          ]),
        ),
        language.of(languageOf(options.language)),
        label.of(labelled(options.label)),
        EditorState.readOnly.of(options.readOnly),
        EditorState.languageData.of(() => offers),
        indentUnit.of("    "),
        lineNumbers(),
        // Nothing scrolls sideways, which the keyboard would not reach and a phone makes a burden.
        EditorView.lineWrapping,
        history(),
        indentOnInput(),
        bracketMatching(),
        closeBrackets(),
        autocompletion({ icons: false, selectOnOpen: false, interactionDelay: 0 }),
        highlightActiveLine(),
        placeholder(options.hint),
        syntaxHighlighting(colours),
        marks,
        look,
        keymap.of([...closeBracketsKeymap, ...completionKeymap, ...historyKeymap, ...defaultKeymap, indentWithTab]),
        EditorView.updateListener.of((update) => {
          if (update.docChanged && !update.transactions.some((one) => one.annotation(fromServer))) options.onText(update.state.doc.toString());
          if (update.focusChanged && update.view.hasFocus) options.onFocus();
          goOn(update);
          // What was looked up while one typed may come when one has left.
          if (completionStatus(update.state) !== null && !update.view.hasFocus) setTimeout(() => closeCompletion(update.view));
        }),
      ],
    }),
  });
  return {
    focus(place) {
      view.focus();
      if (place) view.dispatch({ selection: { anchor: place === "start" ? 0 : view.state.doc.length }, scrollIntoView: true });
    },
    set(given) {
      // The editor has one kind of line end.
      const text = given.replace(/\r\n?/g, "\n");
      const old = view.state.doc.toString();
      if (old === text) return;
      let from = 0;
      while (from < old.length && from < text.length && old[from] === text[from]) from += 1;
      let end = 0;
      while (end < old.length - from && end < text.length - from && old[old.length - 1 - end] === text[text.length - 1 - end]) end += 1;
      view.dispatch({
        changes: { from, to: old.length - end, insert: text.slice(from, text.length - end) },
        annotations: [fromServer.of(true), Transaction.addToHistory.of(false)],
      });
    },
    type: (text) => view.dispatch(view.state.replaceSelection(text)),
    language(name) {
      options.language = name;
      view.dispatch({ effects: language.reconfigure(languageOf(name)) });
    },
    label: (text) => view.dispatch({ effects: label.reconfigure(labelled(text)) }),
    mark: (found) => view.dispatch({ effects: setMarks.of(found) }),
    goTo(line) {
      const found = view.state.doc.line(Math.min(Math.max(1, line), view.state.doc.lines));
      view.focus();
      view.dispatch({ selection: { anchor: found.from }, scrollIntoView: true });
    },
    close: () => view.destroy(),
  };
}
