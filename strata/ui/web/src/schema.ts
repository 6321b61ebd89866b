// Iceberg's schemas as the API gives them: a tree of fields.
type Type = string | { type: string; [part: string]: unknown };

export interface Field {
  id: number;
  name: string;
  path: string;
  type: Type;
  required: boolean;
  doc: string | undefined;
  initial: unknown;
  depth: number;
}

interface RawField {
  id: number;
  name: string;
  type: Type;
  required: boolean;
  doc?: string;
  "initial-default"?: unknown;
}

/** Return all fields of a schema in order, nested ones after theirs with a depth. */
export function fieldsOf(schema: Record<string, unknown>): Field[] {
  const found: Field[] = [];
  const add = (raw: RawField, depth: number, before: string) => {
    const path = before ? `${before}.${raw.name}` : raw.name;
    const { id, name, type, required, doc } = raw;
    found.push({ id, name, path, type, required, doc, initial: raw["initial-default"], depth });
    inside(type, depth + 1, path);
  };
  const inside = (type: Type, depth: number, path: string) => {
    if (typeof type === "string") return;
    if (type.type === "struct") {
      for (const one of type["fields"] as RawField[]) add(one, depth, path);
    } else if (type.type === "list") {
      const element = type["element"] as Type;
      add({ id: Number(type["element-id"]), name: "element", type: element, required: type["element-required"] === true }, depth, path);
    } else if (type.type === "map") {
      add({ id: Number(type["key-id"]), name: "key", type: type["key"] as Type, required: true }, depth, path);
      const value = type["value"] as Type;
      add({ id: Number(type["value-id"]), name: "value", type: value, required: type["value-required"] === true }, depth, path);
    }
  };
  for (const one of (schema["fields"] ?? []) as RawField[]) add(one, 0, "");
  return found;
}

export function typeText(type: Type): string {
  if (typeof type === "string") return type;
  if (type.type === "list") return `list of ${typeText(type["element"] as Type)}`;
  if (type.type === "map") return `map of ${typeText(type["key"] as Type)} to ${typeText(type["value"] as Type)}`;
  return type.type;
}

/** Return the type of each top-level column by name. */
export function types(schema: Record<string, unknown>): Record<string, string> {
  const found: Record<string, string> = {};
  for (const { name, type, depth } of fieldsOf(schema)) if (depth === 0) found[name] = typeText(type);
  return found;
}
