// Where the boxes and lines of a graph are; loaded with the first graph.
import { Graph, layout } from "@dagrejs/dagre";
import type { Arrow, Box } from "./graph";

export const WIDTH = 208;
const LINE = 20;
const PADDING = 16;

export interface Placed {
  width: number;
  height: number;
  boxes: Map<string, { left: number; top: number; height: number }>;
  lines: { arrow: Arrow; points: { x: number; y: number }[] }[];
}

export function placed(boxes: readonly Box[], arrows: readonly Arrow[], direction: "TB" | "LR"): Placed {
  const graph = new Graph({ multigraph: false });
  graph.setGraph({ rankdir: direction, nodesep: 24, ranksep: 48, marginx: 12, marginy: 12 });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const { id, lines } of boxes) graph.setNode(id, { width: WIDTH, height: PADDING + LINE * (1 + lines.length) });
  const known = new Set(boxes.map(({ id }) => id));
  const drawn = arrows.filter(({ from, to }) => known.has(from) && known.has(to) && from !== to);
  for (const { from, to } of drawn) graph.setEdge(from, to, {});
  layout(graph);
  const { width = 0, height = 0 } = graph.graph() as { width?: number; height?: number };
  const found: Placed = { width, height, boxes: new Map(), lines: [] };
  for (const { id } of boxes) {
    const node = graph.node(id) as { x: number; y: number; width: number; height: number };
    found.boxes.set(id, { left: node.x - node.width / 2, top: node.y - node.height / 2, height: node.height });
  }
  for (const arrow of drawn) {
    const { points } = graph.edge(arrow.from, arrow.to) as { points: { x: number; y: number }[] };
    found.lines.push({ arrow, points });
  }
  return found;
}
