// The results with a tag.
import { get } from "../api";
import { Empty, More, Search, Show, usePages } from "../parts";
import { href, parameters } from "../router";
import { short } from "../pages/results";
import type { TaggedItem, TaggedListAnswer } from "../types";
import { Tags } from "./names";

const PAGE = 50;

export function Tagged() {
  const key = parameters.value.get("key") ?? "";
  const value = parameters.value.get("value") ?? "";
  return (
    <>
      <div class="bar">
        <Search label="Tag" name="key" value={key} />
        <Search label="Value (empty: any)" name="value" value={value} />
      </div>
      {key === "" ? <Empty title="Which tag?">Tags are given to results on their own pages, or by programs.</Empty> : <Found tag={key} value={value} />}
    </>
  );
}

function Found({ tag, value }: { tag: string; value: string }) {
  const list = usePages<TaggedItem>(`${tag}\n${value}`, async (token, signal) => {
    const query = { tag_key: tag, tag_value: value || null, limit: PAGE, page_token: token };
    const found = await get<TaggedListAnswer>("/v1/registry/artifacts", query, signal);
    return { items: found.artifacts, next: found.next_page_token };
  });
  return (
    <Show of={list}>
      {() =>
        list.items.length === 0 ? (
          <Empty title="No result has this tag">Keys and values are compared whole, letter by letter.</Empty>
        ) : (
          <>
            <div class="scroll" tabIndex={0} role="region" aria-label="Results with this tag">
              <table class="wide">
                <thead>
                  <tr>
                    <th scope="col">Result</th>
                    <th scope="col">Names</th>
                    <th scope="col">Tags</th>
                  </tr>
                </thead>
                <tbody>
                  {list.items.map((one) => (
                    <tr key={one.uri}>
                      <th scope="row">
                        <a href={href("result", { id: one.artifact_id, version: one.version })}>{short(one.uri)}</a>
                      </th>
                      <td>
                        {one.names.map((name) => (
                          <a key={name} class="badge" href={href("name", { name })}>
                            {name}
                          </a>
                        ))}
                      </td>
                      <td>
                        <Tags of={one.tags} />
                      </td>
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
