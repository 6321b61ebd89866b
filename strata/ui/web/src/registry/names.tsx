// The names of results, with their aliases and the tags of what they point at.
import { get } from "../api";
import { Badge, Empty, More, Show, usePages } from "../parts";
import { href } from "../router";
import { place, short } from "../pages/results";
import type { SummaryAnswer, SummaryItem } from "../types";

const PAGE = 50;

export function Names() {
  const list = usePages<SummaryItem>("names", async (token, signal) => {
    const found = await get<SummaryAnswer>("/v1/registry/summary", { limit: PAGE, page_token: token }, signal);
    return { items: found.names, next: found.next_page_token };
  });
  return (
    <Show of={list}>
      {() =>
        list.items.length === 0 ? (
          <Empty title="No names yet">A result that is asked for with a name is found under it.</Empty>
        ) : (
          <>
            <div class="scroll" tabIndex={0} role="region" aria-label="Names">
              <table class="wide">
                <thead>
                  <tr>
                    <th scope="col">Name</th>
                    <th scope="col">Points at</th>
                    <th scope="col" title="Further pointers below the name, such as the version that is in production">
                      Aliases
                    </th>
                    <th scope="col" title="Of the result that the name points at">
                      Tags
                    </th>
                    <th scope="col" title="Who alone may move the name; empty where anyone who writes may">
                      Owner
                    </th>
                  </tr>
                </thead>
                <tbody>
                  {list.items.map((one) => (
                    <tr key={one.name}>
                      <th scope="row">
                        <a href={href("name", { name: one.name })}>{one.name}</a>
                      </th>
                      <td>
                        <a href={place(one.uri) ?? "results"}>{short(one.uri)}</a>
                      </td>
                      <td>
                        {Object.entries(one.alias_uris).map(([alias, uri]) => (
                          <Badge key={alias} kind={uri === one.uri ? "good" : ""}>
                            {alias}
                          </Badge>
                        ))}
                      </td>
                      <td>
                        <Tags of={one.tags} />
                      </td>
                      <td class="quiet">{one.owner}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
            <More list={list} />
          </>
        )
      }
    </Show>
  );
}

/** Tags as links to all results that have them. */
export function Tags({ of }: { of: Record<string, string> }) {
  return (
    <>
      {Object.entries(of).map(([key, value]) => (
        <a key={key} class="badge" href={href("results", { tab: "tags", key, value })}>
          {value ? `${key}: ${value}` : key}
        </a>
      ))}
    </>
  );
}
