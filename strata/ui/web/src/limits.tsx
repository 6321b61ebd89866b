// The limits of a tenant: the value in force, where it comes from, and a change of it in place.
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { bytes, count } from "./format";
import { Badge } from "./parts";
import type { LimitAnswer } from "./types";

const NONE = new Set([
  "interactive_slots_per_principal",
  "bulk_slots_per_principal",
  "rate_limit_bytes_per_second",
  "rate_limit_client_bytes_per_second",
  "rate_limit_bytes_per_day",
  "rate_limit_client_bytes_per_day",
  "artifact_max_bytes",
  "artifact_max_count",
]);

const SOURCES: Record<string, string> = {
  default: "Strata's own value",
  settings: "The configuration's value for all tenants",
  section: "The configuration's section of this tenant",
  operator: "Changed by an operator",
  tenant: "Changed by an administrator of the tenant",
  maximum: "Cut to the configured maximum",
};

/** Return a limit's value for people, with its unit. */
export function shown(name: string, value: unknown): string {
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value !== "number") return String(value);
  if (value === 0 && NONE.has(name)) return "no limit";
  if (name.includes("bytes_per_second")) return `${bytes(value)} a second`;
  if (name.includes("bytes_per_day")) return `${bytes(value)} a day`;
  if (name.includes("bytes")) return bytes(value);
  if (name.endsWith("_seconds")) return `${count(value)} s`;
  if (name.endsWith("_days")) return `${count(value)} days`;
  if (name.endsWith("_rps")) return `${count(value)} a second`;
  return count(value);
}

/** Change a limit to the text that was typed, or back where it is empty; returns whether it was done. */
export type Change = (name: string, text: string) => Promise<boolean>;

export function Limits({ limits, change }: { limits: Record<string, LimitAnswer>; change?: Change }) {
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Limits">
      <table class="wide limits">
        <thead>
          <tr>
            <th scope="col">Limit</th>
            <th scope="col" class="number">
              Value
            </th>
            <th scope="col">From</th>
            <th scope="col" class="number" title="Operators cannot set more than this">
              At most
            </th>
            {change && <th scope="col">Change</th>}
          </tr>
        </thead>
        <tbody>
          {Object.entries(limits).map(([name, { value, source, maximum, about }]) => (
            <tr key={name}>
              <th scope="row" title={about}>
                <code>{name}</code>
              </th>
              <td class="number" title={`${String(value)}: ${about}`}>
                {shown(name, value)}
              </td>
              <td title={SOURCES[source]}>{source === "default" ? <span class="quiet">default</span> : <Badge>{source}</Badge>}</td>
              <td class="number">{maximum === null ? <span class="quiet">—</span> : shown(name, maximum)}</td>
              {change && (
                <td>
                  <InPlace name={name} value={value} change={change} />
                </td>
              )}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function InPlace({ name, value, change }: { name: string; value: unknown; change: Change }) {
  const [open, setOpen] = useState(false);
  const [text, setText] = useState("");
  const button = useRef<HTMLButtonElement>(null);
  const field = useRef<HTMLInputElement>(null);
  const was = useRef(false);
  useLayoutEffect(() => {
    // Who works by keyboard stays in the line: the focus goes to the field, and afterwards back. At once: the next
    // keys are for it.
    if (open) field.current?.select();
    if (open) field.current?.focus();
    else if (was.current) button.current?.focus();
    was.current = open;
  }, [open]);
  if (name === "enabled") return null;
  if (!open) {
    return (
      <button
        type="button"
        ref={button}
        class="small"
        aria-label={`Change ${name}`}
        onClick={() => {
          setText(typeof value === "string" ? JSON.stringify(value) : String(value));
          setOpen(true);
        }}
      >
        Change
      </button>
    );
  }
  return (
    <form
      class="in-place"
      onSubmit={(event) => {
        event.preventDefault();
        void change(name, text.trim()).then((done) => done && setOpen(false));
      }}
      onKeyDown={(event) => event.key === "Escape" && setOpen(false)}
    >
      <input
        aria-label={`${name}, as JSON; empty: as configured`}
        value={text}
        autocomplete="off"
        spellcheck={false}
        ref={field}
        onInput={(event) => setText(event.currentTarget.value)}
      />
      <button type="submit" class="small">
        Set
      </button>
      <button type="button" class="small" onClick={() => setOpen(false)}>
        Cancel
      </button>
    </form>
  );
}
