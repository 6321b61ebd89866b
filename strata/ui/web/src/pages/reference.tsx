// A reader of the server's own description (OpenAPI), by what people do first.
import { useId, useMemo, useState } from "preact/hooks";
import { get, send, url } from "../api";
import type { ApiError } from "../api";
import { Badge, Code, Empty, known, Refusal, Search, Show, useLoaded } from "../parts";
import { parameters, ROOT } from "../router";

interface Schema {
  $ref?: string;
  type?: string | string[];
  description?: string;
  properties?: Record<string, Schema>;
  required?: string[];
  items?: Schema;
  anyOf?: Schema[];
  enum?: unknown[];
  default?: unknown;
  additionalProperties?: Schema | boolean;
}

interface Parameter {
  name: string;
  in: string;
  required?: boolean;
  description?: string;
  schema?: Schema;
}

interface Answer {
  description?: string;
  content?: Record<string, { schema?: Schema }>;
}

interface Operation {
  tags?: string[];
  summary?: string;
  description?: string;
  parameters?: Parameter[];
  requestBody?: { content: Record<string, { schema?: Schema }> };
  responses?: Record<string, Answer>;
}

interface Document {
  info: { title: string; version: string; description?: string };
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, Schema> };
}

interface Route {
  key: string;
  method: string;
  path: string;
  tag: string;
  operation: Operation;
}

/** The groups in the order in which people need them. */
const GROUPS: [string, string][] = [
  ["tables", "Find tables"],
  ["results", "Read rows, run SQL"],
  ["artifacts", "Results that are kept"],
  ["names", "Names of results"],
  ["notebooks", "Notebooks"],
  ["administration", "Who you are; tenants and limits"],
  ["operations", "Operate the server"],
  ["writes", "Direct writes"],
];

const METHODS = ["get", "post", "put", "patch", "delete"];

export function Reference() {
  const loaded = useLoaded("openapi", (signal) => get<Document>("/openapi.json", {}, signal));
  return (
    <>
      <div class="head">
        <h1>API</h1>
        <p class="quiet">
          All that this server answers, as it describes itself. For machines: <a href={new URL("openapi.json", ROOT).href}>openapi.json</a>.
        </p>
      </div>
      <Show of={loaded} lines={12}>
        {(document) => <Routes document={document} />}
      </Show>
    </>
  );
}

function Routes({ document }: { document: Document }) {
  const q = parameters.value.get("q") ?? "";
  const routes = useMemo(
    () =>
      Object.entries(document.paths).flatMap(([path, operations]) =>
        METHODS.filter((method) => operations[method]).map((method): Route => {
          const operation = operations[method] as Operation;
          return { key: `${method} ${path}`, method: method.toUpperCase(), path, tag: operation.tags?.[0] ?? "other", operation };
        }),
      ),
    [document],
  );
  const words = q.toLowerCase().split(/\s+/).filter(Boolean);
  const found = routes.filter(({ method, path, operation }) => {
    const text = `${method} ${path} ${operation.summary ?? ""} ${operation.description ?? ""}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
  const groups = [...GROUPS, ["other", "Other"] as [string, string]];
  return (
    <>
      <div class="bar" role="search">
        <Search label="Search the API" name="q" value={q} />
      </div>
      {found.length === 0 && (
        <Empty title="No route matches">
          <a href="api">Show all</a>
        </Empty>
      )}
      {groups.map(([tag, title]) => {
        const own = found.filter((one) => (tag === "other" ? !GROUPS.some(([known]) => known === one.tag) : one.tag === tag));
        if (own.length === 0) return null;
        return (
          <section key={tag} class="card routes" aria-label={title}>
            <h2>
              {title} <span class="count">{own.length}</span>
            </h2>
            {own.map((one) => (
              <OneRoute key={one.key} route={one} schemas={document.components.schemas} open={found.length === 1} />
            ))}
          </section>
        );
      })}
    </>
  );
}

function OneRoute({ route, schemas, open }: { route: Route; schemas: Record<string, Schema>; open: boolean }) {
  const [shown, setShown] = useState(open);
  const { operation } = route;
  return (
    <details class="route" open={open} onToggle={(event) => setShown(event.currentTarget.open)}>
      <summary>
        <span class={`method ${route.method.toLowerCase()}`}>{route.method}</span> <code>{route.path}</code>
        <span class="quiet summary">{text(operation.summary)}</span>
      </summary>
      {shown && <Whole route={route} schemas={schemas} />}
    </details>
  );
}

/** Return a text of the description without the marks of its source. */
function text(raw: string | undefined): string {
  return (raw ?? "").replaceAll("``", "").trim();
}

function Whole({ route, schemas }: { route: Route; schemas: Record<string, Schema> }) {
  const { operation } = route;
  const asked = Object.values(operation.requestBody?.content ?? {})[0]?.schema;
  const answers = Object.entries(operation.responses ?? {});
  const good = answers.filter(([status]) => status < "400");
  const refusals = answers.filter(([status]) => status >= "400").map(([status]) => status);
  return (
    <div class="route-body">
      {operation.description && operation.description !== operation.summary && <p class="doc">{text(operation.description)}</p>}
      {(operation.parameters?.length ?? 0) > 0 && (
        <>
          <h3>Parameters</h3>
          <div class="scroll" tabIndex={0} role="region" aria-label={`Parameters of ${route.key}`}>
            <table>
              <tbody>
                {operation.parameters?.map((one) => (
                  <tr key={`${one.in} ${one.name}`}>
                    <th scope="row">
                      <code>{one.name}</code>
                    </th>
                    <td>
                      {one.in}
                      {one.required && (
                        <>
                          {" "}
                          <Badge>required</Badge>
                        </>
                      )}
                    </td>
                    <td>
                      <code>{typeName(one.schema)}</code>
                    </td>
                    <td>{text(one.description ?? one.schema?.description)}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        </>
      )}
      {asked && (
        <>
          <h3>Body</h3>
          <Fields schema={asked} schemas={schemas} asked />
        </>
      )}
      {good.map(([status, answer]) => (
        <section key={status}>
          <h3>
            {status} {answer.description && answer.description !== "OK" ? text(answer.description).split("\n")[0] : ""}
          </h3>
          {Object.entries(answer.content ?? {}).map(([kind, { schema }]) => (
            <div key={kind}>
              {kind !== "application/json" && <code>{kind}</code>}
              {schema && <Fields schema={schema} schemas={schemas} />}
            </div>
          ))}
        </section>
      ))}
      {refusals.length > 0 && (
        <p class="quiet">
          Refuses with {refusals.join(", ")}, each as a <code>Problem</code>: <code>detail</code> says why,{" "}
          <code>request_id</code> finds it in the log.
        </p>
      )}
      <Try route={route} body={asked ? example(asked, schemas, 0) : undefined} />
    </div>
  );
}

function resolved(schema: Schema, schemas: Record<string, Schema>): Schema {
  const name = schema.$ref?.split("/").at(-1);
  return name ? (schemas[name] ?? {}) : schema;
}

function typeName(schema: Schema | undefined): string {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").at(-1) ?? "";
  if (schema.anyOf) return schema.anyOf.map(typeName).join(" or ");
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" or ");
  if (schema.type === "array") return `list of ${typeName(schema.items) || "values"}`;
  return Array.isArray(schema.type) ? schema.type.join(" or ") : (schema.type ?? "any");
}

function Fields({
  schema,
  schemas,
  depth = 0,
  asked = false,
}: {
  schema: Schema;
  schemas: Record<string, Schema>;
  depth?: number;
  asked?: boolean;
}) {
  const whole = resolved(schema, schemas);
  const fields = Object.entries(whole.properties ?? {});
  if (fields.length === 0) return <p class="quiet">{typeName(whole)}</p>;
  return (
    <ul class="schema">
      {fields.map(([name, field]) => {
        const inner = [field, field.items, ...(field.anyOf ?? [])].find((one) => one?.$ref);
        return (
          <li key={name}>
            <code>{name}</code> <span class="quiet">{typeName(field)}</span>
            {asked && whole.required?.includes(name) && (
              <>
                {" "}
                <Badge>required</Badge>
              </>
            )}
            {field.description && <span> {text(field.description)}</span>}
            {inner && depth < 3 && (
              <details>
                <summary>{typeName(inner)}</summary>
                <Fields schema={inner} schemas={schemas} depth={depth + 1} asked={asked} />
              </details>
            )}
          </li>
        );
      })}
    </ul>
  );
}

function example(schema: Schema, schemas: Record<string, Schema>, depth: number): unknown {
  const whole = resolved(schema, schemas);
  if (whole.default !== undefined) return whole.default;
  if (whole.enum) return whole.enum[0];
  if (whole.anyOf) return example(whole.anyOf[0] ?? {}, schemas, depth);
  switch (whole.type) {
    case "object": {
      if (depth > 4) return {};
      const fields = Object.entries(whole.properties ?? {}).filter(([name]) => whole.required?.includes(name));
      return Object.fromEntries(fields.map(([name, field]) => [name, example(field, schemas, depth + 1)]));
    }
    case "array":
      return depth > 4 ? [] : [example(whole.items ?? {}, schemas, depth + 1)];
    case "integer":
    case "number":
      return 1;
    case "boolean":
      return false;
    case "string":
      return "text";
    default:
      return null;
  }
}

const SHOWN = 20_000;

function Try({ route, body }: { route: Route; body: unknown }) {
  const id = useId();
  const [values, setValues] = useState<Record<string, string>>({});
  const [sent, setSent] = useState(body === undefined ? "" : JSON.stringify(body, null, 2));
  const [answer, setAnswer] = useState<string | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const [sure, setSure] = useState(false);
  const fields = (route.operation.parameters ?? []).filter((one) => one.in !== "header");
  const target = () => {
    const path = route.path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(values[name] ?? ""));
    const query = Object.fromEntries(fields.filter((one) => one.in === "query").map(({ name }) => [name, values[name]]));
    return url(path, query);
  };
  const safe = route.method === "GET";
  const curl = [
    `curl -s ${safe ? "" : `-X ${route.method} `}'${target().href.replaceAll("'", "%27")}'`,
    ...(sent ? [`  -H 'Content-Type: application/json'`, `  -d '${sent.replaceAll("'", "'\\''").replace(/\s*\n\s*/g, " ")}'`] : []),
  ].join(" \\\n");
  const run = async () => {
    setError(null);
    setAnswer(null);
    try {
      const found = await send(target(), {
        method: route.method,
        headers: { Accept: "application/json, */*", ...(sent ? { "Content-Type": "application/json" } : {}) },
        ...(sent ? { body: sent } : {}),
      });
      const kind = found.headers.get("Content-Type") ?? "";
      if (!/json|text/.test(kind)) {
        await found.body?.cancel();
        setAnswer(`${found.status} ${kind}, not shown`);
        return;
      }
      const raw = await found.text();
      let shown = raw;
      if (kind.includes("json")) shown = JSON.stringify(JSON.parse(raw), null, 2);
      setAnswer(shown.length > SHOWN ? `${shown.slice(0, SHOWN)}\n… (${raw.length} characters)` : shown);
    } catch (refused) {
      setError(known(refused));
    }
  };
  return (
    <form
      class="try"
      onSubmit={(event) => {
        event.preventDefault();
        void run();
      }}
    >
      <h3>Try it</h3>
      {fields.length > 0 && (
        <div class="bar">
          {fields.map(({ name, required }) => (
            <div class="field" key={name}>
              <label htmlFor={`${id}-${name}`}>{name}</label>
              <input
                id={`${id}-${name}`}
                required={required ?? false}
                autocomplete="off"
                value={values[name] ?? ""}
                onInput={(event) => setValues({ ...values, [name]: event.currentTarget.value })}
              />
            </div>
          ))}
        </div>
      )}
      {body !== undefined && (
        <div class="field">
          <label htmlFor={`${id}-body`}>Body</label>
          <textarea id={`${id}-body`} rows={Math.min(14, sent.split("\n").length + 1)} spellcheck={false} value={sent} onInput={(event) => setSent(event.currentTarget.value)} />
        </div>
      )}
      <Code name="curl" text={curl} />
      <p class="buttons left">
        {!safe && (
          <label>
            <input type="checkbox" checked={sure} onChange={(event) => setSure(event.currentTarget.checked)} /> This may change something
          </label>
        )}
        <button type="submit" class="main" disabled={!safe && !sure}>
          Send it as you
        </button>
      </p>
      {error && <Refusal error={error} />}
      {answer !== null && <Code name="answer" text={answer} />}
    </form>
  );
}
