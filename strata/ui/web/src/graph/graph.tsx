// A graph of boxes and arrows. The boxes are links or buttons in their order: what is drawn is a list, too, for those who
// do not see it.
import { useId, useMemo, useState } from "preact/hooks";
import type { ComponentChildren } from "preact";
import { Refusal, useLoaded, Waiting } from "../parts";
import type { Placed } from "./layout";
import "./graph.css";

export interface Box {
  id: string;
  title: string;
  /** Further lines; each is cut off where it does not fit. */
  lines: string[];
  /** What it is called to those who do not see where its arrows come from. */
  label: string;
  kind?: string;
  href?: string | null;
  onOpen?: () => void;
}

export interface Arrow {
  from: string;
  to: string;
  /** What goes along it. */
  label?: string;
  dashed?: boolean;
}

/** More than these are a list only: nobody finds a way in such a picture. */
const BOXES = 200;
const ARROWS = 1_000;

interface Props {
  label: string;
  boxes: Box[];
  arrows: Arrow[];
  direction: "TB" | "LR";
  /** The same as a list or a table. */
  children: ComponentChildren;
}

export function Graph({ label, boxes, arrows, direction, children }: Props) {
  const [list, setList] = useState(false);
  const large = boxes.length > BOXES || arrows.length > ARROWS;
  const shape = useMemo(() => JSON.stringify([boxes.map(({ id, lines }) => [id, lines.length]), arrows.map(({ from, to }) => [from, to])]), [boxes, arrows]);
  const found = useLoaded(large || list ? null : `${direction} ${shape}`, async () => (await import("./layout")).placed(boxes, arrows, direction));
  return (
    <section class="graph" aria-label={label}>
      {large ? (
        <p class="note">
          {boxes.length.toLocaleString()} boxes and {arrows.length.toLocaleString()} arrows are too many for a picture. This is the list of them.
        </p>
      ) : (
        <p class="buttons left">
          <button type="button" class="small" aria-pressed={list} onClick={() => setList(!list)}>
            As a list
          </button>
        </p>
      )}
      {large || list ? children : found.error ? <Refusal error={found.error} again={found.again} /> : found.value ? <Drawn label={label} boxes={boxes} of={found.value} /> : <Waiting lines={6} />}
    </section>
  );
}

function Drawn({ label, boxes, of }: { label: string; boxes: Box[]; of: Placed }) {
  const head = useId();
  return (
    <div class="graph-scroll" tabIndex={0} role="region" aria-label={`Picture: ${label}`}>
      <div class="graph-ground" style={{ width: `${of.width}px`, height: `${of.height}px` }}>
        <svg width={of.width} height={of.height} aria-hidden="true">
          <defs>
            <marker id={head} viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto-start-reverse">
              <path d="M0 0L10 5L0 10z" class="graph-head" />
            </marker>
          </defs>
          {of.lines.map(({ arrow, points }) => (
            <path key={`${arrow.from} ${arrow.to}`} d={curve(points)} class={`graph-line ${arrow.dashed ? "dashed" : ""}`} marker-end={`url(#${head})`}>
              <title>{arrow.label ?? ""}</title>
            </path>
          ))}
        </svg>
        <ol aria-label={label}>
          {boxes.map((box) => {
            const at = of.boxes.get(box.id);
            if (!at) return null;
            const inside = (
              <>
                <strong>{box.title}</strong>
                {box.lines.map((line, number) => (
                  <span key={number}>{line}</span>
                ))}
              </>
            );
            const kind = `graph-box ${box.kind ?? ""}`;
            return (
              <li key={box.id} style={{ left: `${at.left}px`, top: `${at.top}px`, height: `${at.height}px` }}>
                {box.href ? (
                  <a href={box.href} class={kind} aria-label={box.label} title={box.label}>
                    {inside}
                  </a>
                ) : box.onOpen ? (
                  <button type="button" class={kind} aria-label={box.label} title={box.label} onClick={box.onOpen}>
                    {inside}
                  </button>
                ) : (
                  <div class={kind} title={box.label}>
                    {inside}
                  </div>
                )}
              </li>
            );
          })}
        </ol>
      </div>
    </div>
  );
}

/** Return a smooth line through the middles between its points. */
function curve(points: { x: number; y: number }[]): string {
  const [first, ...rest] = points;
  if (!first) return "";
  let path = `M${first.x} ${first.y}`;
  for (const [at, point] of rest.entries()) {
    const next = rest[at + 1];
    if (next) path += `Q${point.x} ${point.y} ${(point.x + next.x) / 2} ${(point.y + next.y) / 2}`;
    else path += `L${point.x} ${point.y}`;
  }
  return path;
}
