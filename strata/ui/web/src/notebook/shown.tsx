// What outputs and values of cells have in common: where they are read, and how texts are shown.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { url } from "../api";
import { plural } from "../format";

const LINES = 30;
const CHARACTERS = 6_000;

export interface Place {
  notebook: string;
  cell: string;
  /** What the cell is called. */
  called: string;
}

export function address({ notebook, cell }: Place, what: { display?: number; value?: string }): URL {
  return url(`/v1/notebooks/${encodeURIComponent(notebook)}/session/output`, { cell, ...what });
}

// The escape character begins the codes of terminals.
const CODES = /\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)|[@-Z\\-_])/g;

/** Return a console's text as a terminal leaves it: without codes, and with lines that were written over. */
export function terminal(text: string): string {
  const plain = text.replace(CODES, "").replace(/\r\n/g, "\n");
  if (!plain.includes("\r")) return plain;
  return plain
    .split("\n")
    .map((line) => line.split("\r").filter((part, at, all) => part || at === all.length - 1 || at === 0).at(-1) || (line.split("\r").findLast(Boolean) ?? ""))
    .join("\n");
}

export function Text({ text, name, kind = "" }: { text: string; name: string; kind?: string }) {
  const [whole, setWhole] = useState(false);
  const shown = useMemo(() => terminal(text), [text]);
  const lines = useMemo(() => shown.split("\n"), [shown]);
  const long = lines.length > LINES + 5 || shown.length > CHARACTERS + 500;
  const part = long && !whole ? lines.slice(0, LINES).join("\n").slice(0, CHARACTERS) : shown;
  return (
    <div class={`out-text ${kind}`}>
      <pre tabIndex={0} aria-label={name}>
        {part}
      </pre>
      {long && (
        <button type="button" class="small" onClick={() => setWhole(!whole)}>
          {whole ? "Show less" : `Show all ${plural(lines.length, "line")}`}
        </button>
      )}
    </div>
  );
}

/** Show outputs only when they come near to the part of the page that is in sight. */
export function useNear(): [{ current: HTMLDivElement | null }, boolean] {
  const box = useRef<HTMLDivElement>(null);
  const [near, setNear] = useState(false);
  useEffect(() => {
    const element = box.current;
    if (!element || near) return;
    const watch = new IntersectionObserver((seen) => seen.some(({ isIntersecting }) => isIntersecting) && setNear(true), { rootMargin: "400px" });
    watch.observe(element);
    return () => watch.disconnect();
  }, [near]);
  return [box, near];
}
