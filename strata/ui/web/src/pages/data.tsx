// The tables that the caller may read, by catalog and namespace.
import { get } from "../api";
import { plural } from "../format";
import { Badge, Choice, Empty, More, Refusal, Search, useLoaded, usePages, Waiting } from "../parts";
import { change, href, parameters } from "../router";
import type { CatalogListAnswer, ListedTableAnswer, TableListAnswer } from "../types";

const PAGE = 200;

export function Data() {
  const q = parameters.value.get("q") ?? "";
  const catalog = parameters.value.get("catalog") ?? "";
  const namespace = parameters.value.get("namespace") ?? "";
  const catalogs = useLoaded("catalogs", (signal) => get<CatalogListAnswer>("/v1/catalogs", {}, signal));
  const tables = usePages<ListedTableAnswer>(`${catalog}\n${namespace}\n${q}`, async (token, signal) => {
    const query = { catalog, namespace, q, limit: PAGE, page_token: token };
    const found = await get<TableListAnswer>("/v1/tables", query, signal);
    return { items: found.tables, next: found.next_page_token };
  });
  const options: [string, string][] = [
    ["", "All catalogs"],
    ...(catalogs.value?.catalogs ?? []).map(({ name, type }): [string, string] => [name, `${name} (${type})`]),
  ];
  return (
    <>
      <div class="head">
        <h1>Data</h1>
        <p class="quiet">Tables that you may read. A table that is not here does not exist, or is not for you.</p>
      </div>
      <div class="bar" role="search">
        <Search label="Search tables" name="q" value={q} />
        <Choice label="Catalog" value={catalog} options={options} onChange={(name) => change({ catalog: name, namespace: "" })} />
      </div>
      {namespace && (
        <p class="chosen">
          Namespace <strong>{namespace}</strong>{" "}
          <button type="button" onClick={() => change({ namespace: "" })}>
            Show all
          </button>
        </p>
      )}
      {tables.error && <Refusal error={tables.error} again={tables.again} />}
      {tables.loading && <Waiting lines={8} />}
      {tables.value && tables.items.length === 0 && (
        <Empty title={q || catalog || namespace ? "No table matches" : "There is no table that you may read"}>
          {q || catalog || namespace ? (
            <a href="data">Show all tables</a>
          ) : (
            <>
              Ask your administrator for a grant; <a href="me">your identity</a> says as whom this server sees you.
            </>
          )}
        </Empty>
      )}
      {groups(tables.items).map(([key, found]) => {
        const first = found[0] as ListedTableAnswer;
        const place = first.namespace.join(".");
        return (
          <section key={key} class="card" aria-label={key}>
            <h2>
              <span class="quiet">{first.catalog}</span>
              <span class="quiet" aria-hidden="true">
                {" / "}
              </span>
              <a href={href("data", { catalog: first.catalog, namespace: place, q })}>{place}</a>
              <span class="count">{plural(found.length, "table")}</span>
            </h2>
            <ul class="tables">
              {found.map((table) => (
                <li key={table.uri}>
                  {table.kind === "view" ? (
                    <span class="name">
                      {table.name} <Badge>view</Badge>
                    </span>
                  ) : (
                    <a class="name" href={href("table", { uri: table.uri })}>
                      {table.name}
                    </a>
                  )}
                </li>
              ))}
            </ul>
          </section>
        );
      })}
      <More list={tables} />
    </>
  );
}

function groups(tables: ListedTableAnswer[]): [string, ListedTableAnswer[]][] {
  const found = new Map<string, ListedTableAnswer[]>();
  for (const table of tables) {
    const key = `${table.catalog} / ${table.namespace.join(".")}`;
    const group = found.get(key);
    if (group) group.push(table);
    else found.set(key, [table]);
  }
  return [...found];
}
