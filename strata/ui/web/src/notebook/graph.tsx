// Which cell takes which names from which other one.
import { Empty } from "../parts";
import { change } from "../router";
import { Graph } from "../graph/graph";
import type { Arrow, Box } from "../graph/graph";
import type { CellAnswer, CellNodeAnswer, NotebookEdgeAnswer } from "../types";
import type { Workbench } from "./bench";
import { LANGUAGES } from "./cell";
import { called, summary } from "./reasons";

const NAMES = 6;

function listed(names: readonly string[]): string {
  return names.length > NAMES ? `${names.slice(0, NAMES).join(", ")} and ${names.length - NAMES} more` : names.join(", ");
}

/** The arrows of a notebook: one for each pair of cells, with all names that go along it. */
function arrowsOf(edges: readonly NotebookEdgeAnswer[], nodes: readonly CellNodeAnswer[]): (Arrow & { names: string[] })[] {
  const found = new Map<string, Arrow & { names: string[] }>();
  for (const { from_cell_id: from, to_cell_id: to, variable } of edges) {
    const arrow = found.get(`${from} ${to}`) ?? { from, to, names: [] };
    if (variable) arrow.names.push(variable);
    found.set(`${from} ${to}`, arrow);
  }
  for (const { id, after } of nodes) {
    for (const from of after) if (!found.has(`${from} ${id}`)) found.set(`${from} ${id}`, { from, to: id, names: [] });
  }
  return [...found.values()].map((arrow) => ({ ...arrow, label: listed(arrow.names), dashed: !arrow.names.length }));
}

export function CellGraph({ bench }: { bench: Workbench }) {
  const { document: doc, session } = bench;
  const cells = doc.cells.value;
  const { dag } = doc.base.value;
  const nodes = new Map(dag.cells.map((node) => [node.id, node]));
  const arrows = arrowsOf(dag.edges, dag.cells);
  const shown = cells.filter(({ id, language }) => language !== "markdown" && nodes.has(id));
  const open = (id: string) => {
    change({ tab: null }, { replace: false });
    // The cells are there after this turn.
    setTimeout(() => bench.show(id));
  };
  const from = (id: string) => arrows.filter(({ to }) => to === id).map((arrow) => `${arrow.names.length ? `${listed(arrow.names)} of ` : "after "}${called(cells, arrow.from)}`);
  if (!shown.length) return <Empty title="There is no graph yet">A notebook with cells in Python or SQL has one.</Empty>;
  const stands = (cell: CellAnswer) => {
    const state = session.of(cell.id).value;
    return summary(state.found, state.status, doc.dirty.value.has(cell.id), cells);
  };
  const boxes: Box[] = shown.map((cell) => {
    const defines = nodes.get(cell.id)?.defines ?? [];
    const how = stands(cell);
    const name = called(cells, cell.id);
    const takes = from(cell.id);
    return {
      id: cell.id,
      title: `${name}${name.startsWith("cell ") ? "" : ` (cell ${cells.indexOf(cell) + 1})`}`,
      lines: [listed(defines) || "defines no name", `${LANGUAGES[cell.language] ?? cell.language}, ${how.word}`],
      label: `${name}, ${how.word}; defines ${listed(defines) || "nothing"}; takes ${takes.join("; ") || "nothing"}`,
      kind: how.kind,
      onOpen: () => open(cell.id),
    };
  });
  return (
    <Graph label="Cells and the names that they take" boxes={boxes} arrows={arrows} direction="TB">
      <div class="scroll" tabIndex={0} role="region" aria-label="Cells and names">
        <table>
          <thead>
            <tr>
              <th scope="col">Cell</th>
              <th scope="col">Stands</th>
              <th scope="col">Defines</th>
              <th scope="col">Takes</th>
            </tr>
          </thead>
          <tbody>
            {shown.map((cell) => (
              <tr key={cell.id}>
                <th scope="row">
                  <button type="button" class="small" onClick={() => open(cell.id)}>
                    {called(cells, cell.id)}
                  </button>
                </th>
                <td>{stands(cell).word}</td>
                <td>{(nodes.get(cell.id)?.defines ?? []).join(", ")}</td>
                <td>{from(cell.id).join("; ")}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </Graph>
  );
}
