// A grid of any number of rows and columns: only what is in sight is in the document.
import type { Table, Vector } from "apache-arrow";
import { useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { Copy } from "../parts";
import { cell, kindOf } from "./cells";

const ROW = 30;
const HEAD = 48;
const INDEX = 64;
const SAMPLED = 60;
const BEYOND = 6;
const CHARACTER = 7.6;
/** The tallest element that every browser lays out exactly; more rows than fit share its pixels. */
const TALLEST = 8_000_000;

export interface Sort {
  column: string;
  descending: boolean;
}

interface Props {
  table: Table;
  label: string;
  sort?: Sort | null;
  onSort?: (column: string) => void;
}

export function Grid({ table, label, sort = null, onSort }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const id = useId();
  const [size, setSize] = useState({ width: 800, height: 480 });
  const [at, setAt] = useState({ top: 0, left: 0 });
  const [active, setActive] = useState({ row: 0, column: 0 });
  const [opened, setOpened] = useState<{ row: number; column: number } | null>(null);
  const columns = useMemo(() => laidOut(table), [table]);
  const rows = table.numRows;
  const height = rows * ROW;
  const drawn = Math.min(height, TALLEST);
  const wide = INDEX + columns.reduce((sum, one) => sum + one.width, 0);

  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const watch = new ResizeObserver(() => setSize({ width: element.clientWidth, height: element.clientHeight }));
    watch.observe(element);
    return () => watch.disconnect();
  }, []);

  const inside = size.height - HEAD;
  const scrolled = drawn > inside ? (at.top / (drawn - inside)) * (height - inside) : 0;
  const top = drawn === height ? at.top : scrolled;
  // Always as many, so that those that leave at one end are those that come at the other: scrolling makes no elements.
  const many = Math.min(rows, Math.ceil(Math.max(0, inside) / ROW) + 1 + 2 * BEYOND);
  const first = Math.min(rows - many, Math.max(0, Math.floor(top / ROW) - BEYOND));
  const last = first + many;
  const shift = at.top - top;
  const seen = columns.filter((one) => one.left + one.width > at.left && one.left < at.left + size.width);

  const reveal = (row: number, column: number) => {
    const element = box.current;
    const place = columns[column];
    if (!element || !place) return;
    const y = row * ROW;
    let wanted = top;
    if (y < top) wanted = y;
    else if (y + ROW > top + inside) wanted = y + ROW - inside;
    if (wanted !== top) {
      element.scrollTop = drawn === height ? wanted : (wanted / (height - inside)) * (drawn - inside);
    }
    if (place.left < element.scrollLeft + INDEX) element.scrollLeft = Math.max(0, place.left - INDEX);
    else if (place.left + place.width > element.scrollLeft + size.width) {
      element.scrollLeft = place.left + place.width - size.width;
    }
  };

  const onKey = (event: KeyboardEvent) => {
    if (event.target !== box.current || rows === 0) return;
    const page = Math.max(1, Math.floor(inside / ROW) - 1);
    let { row, column } = active;
    const whole = event.ctrlKey || event.metaKey;
    if (event.key === "ArrowDown") row += 1;
    else if (event.key === "ArrowUp") row -= 1;
    else if (event.key === "ArrowRight") column += 1;
    else if (event.key === "ArrowLeft") column -= 1;
    else if (event.key === "PageDown") row += page;
    else if (event.key === "PageUp") row -= page;
    else if (event.key === "Home") [row, column] = [whole ? 0 : row, 0];
    else if (event.key === "End") [row, column] = [whole ? rows - 1 : row, columns.length - 1];
    else if (event.key === "Enter" || event.key === " ") setOpened(active);
    else if (event.key === "s" && onSort) onSort(columns[column]?.name ?? "");
    else if (event.key === "c" && whole && !getSelection()?.toString()) {
      void navigator.clipboard?.writeText(value(columns[column]?.vector, row));
    } else return;
    event.preventDefault();
    row = Math.min(rows - 1, Math.max(0, row));
    column = Math.min(columns.length - 1, Math.max(0, column));
    setActive({ row, column });
    reveal(row, column);
  };

  const lines = [];
  for (let row = first; row < last; row++) {
    lines.push(
      <div key={row % many} class="row" role="row" aria-rowindex={row + 2} style={{ transform: `translateY(${row * ROW + shift}px)` }}>
        <span class="index" role="rowheader">
          {row + 1}
        </span>
        {seen.map((one) => {
          const found = cell(one.vector, row);
          const here = active.row === row && active.column === one.at;
          return (
            <span
              key={one.at}
              id={here ? `${id}-active` : undefined}
              role="gridcell"
              aria-colindex={one.at + 2}
              class={`cell ${found.kind}${here ? " active" : ""}`}
              style={{ left: `${one.left}px`, width: `${one.width}px` }}
              onClick={() => setActive({ row, column: one.at })}
              onDblClick={() => setOpened({ row, column: one.at })}
            >
              {found.text.length > 300 ? `${found.text.slice(0, 300)}…` : found.text}
            </span>
          );
        })}
      </div>,
    );
  }

  return (
    <>
      <div
        class="grid"
        ref={box}
        role="grid"
        tabIndex={0}
        aria-label={label}
        aria-rowcount={rows + 1}
        aria-colcount={columns.length + 1}
        aria-activedescendant={active.row >= first && active.row < last ? `${id}-active` : undefined}
        onScroll={(event) => setAt({ top: event.currentTarget.scrollTop, left: event.currentTarget.scrollLeft })}
        onKeyDown={onKey}
      >
        <div class="titles" role="row" aria-rowindex={1} style={{ width: `${wide}px` }}>
          <span class="index" role="columnheader">
            <span class="unseen">Row</span>
          </span>
          {seen.map((one) => (
            <span
              key={one.at}
              role="columnheader"
              aria-colindex={one.at + 2}
              aria-sort={sort?.column === one.name ? (sort.descending ? "descending" : "ascending") : undefined}
              class={`title ${one.kind}`}
              style={{ left: `${one.left}px`, width: `${one.width}px` }}
              title={`${one.name}: ${one.type}`}
            >
              {onSort ? (
                <button type="button" tabIndex={-1} onClick={() => onSort(one.name)}>
                  {one.name}
                  <span aria-hidden="true">{sort?.column === one.name ? (sort.descending ? " ↓" : " ↑") : ""}</span>
                </button>
              ) : (
                <span class="label">{one.name}</span>
              )}
              <span class="type">{one.type}</span>
            </span>
          ))}
        </div>
        <div class="body" role="rowgroup" style={{ height: `${drawn}px`, width: `${wide}px` }}>
          {lines}
        </div>
      </div>
      {opened && (
        <Whole
          title={`${columns[opened.column]?.name ?? ""}, row ${opened.row + 1}`}
          text={value(columns[opened.column]?.vector, opened.row)}
          close={() => {
            setOpened(null);
            box.current?.focus();
          }}
        />
      )}
    </>
  );
}

function value(vector: Vector | undefined, row: number): string {
  return vector ? cell(vector, row).text : "";
}

function Whole({ title, text, close }: { title: string; text: string; close: () => void }) {
  const box = useRef<HTMLDialogElement>(null);
  useLayoutEffect(() => box.current?.showModal(), []);
  return (
    <dialog ref={box} onClose={close} aria-label={title} class="whole">
      <h2>{title}</h2>
      <pre tabIndex={0}>{text}</pre>
      <p class="buttons">
        <Copy text={text} />
        <button type="button" onClick={() => box.current?.close()}>
          Close
        </button>
      </p>
    </dialog>
  );
}

interface Column {
  at: number;
  name: string;
  type: string;
  kind: string;
  vector: Vector;
  left: number;
  width: number;
}

function laidOut(table: Table): Column[] {
  let left = INDEX;
  return table.schema.fields.map((field, at) => {
    const vector = table.getChildAt(at) as Vector;
    const type = named(String(field.type));
    let longest = Math.max(field.name.length + 2, type.length);
    for (let row = 0; row < Math.min(SAMPLED, table.numRows); row++) {
      longest = Math.max(longest, cell(vector, row).text.length);
    }
    const width = Math.round(Math.min(340, Math.max(72, longest * CHARACTER + 22)));
    const column = { at, name: field.name, type, kind: kindOf(field.type), vector, left, width };
    left += width;
    return column;
  });
}

const NAMES: Record<string, string> = {
  Utf8: "string",
  LargeUtf8: "string",
  Bool: "boolean",
  Int8: "int8",
  Int16: "int16",
  Int32: "int",
  Int64: "long",
  Float32: "float",
  Float64: "double",
  Binary: "binary",
  LargeBinary: "binary",
};

function named(type: string): string {
  return NAMES[type] ?? type.replace(/LargeList/g, "List").replace(/LargeUtf8|Utf8/g, "string").replace(/Int64/g, "long").replace(/Int32/g, "int");
}
