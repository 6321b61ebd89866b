// The parts that pages are made of.
import type { ComponentChildren } from "preact";
import { useEffect, useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import { ApiError } from "./api";
import { hold } from "./focus";
import { since, time } from "./format";
import { change } from "./router";

export interface Loaded<T> {
  value: T | null;
  error: ApiError | null;
  loading: boolean;
  again: () => void;
}

/** Load a value whenever `key` changes; an answer that comes too late is dropped, with its request. */
export function useLoaded<T>(key: string | null, load: (signal: AbortSignal) => Promise<T>): Loaded<T> {
  const [turn, setTurn] = useState(0);
  const [state, setState] = useState<{ key: string | null; value: T | null; error: ApiError | null }>({
    key: null,
    value: null,
    error: null,
  });
  useEffect(() => {
    if (key === null) return;
    const stop = new AbortController();
    load(stop.signal).then(
      (value) => !stop.signal.aborted && setState({ key, value, error: null }),
      (error: unknown) => !stop.signal.aborted && setState({ key, value: null, error: known(error) }),
    );
    return () => stop.abort();
  }, [key, turn]);
  const current = state.key === key;
  return {
    value: current ? state.value : null,
    error: current ? state.error : null,
    loading: key !== null && !current,
    again: () => setTurn(turn + 1),
  };
}

export function known(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  return new ApiError(0, error instanceof Error ? error.message : "Something went wrong in this page.", null);
}

interface Page<T> {
  items: T[];
  next: string | null;
  total?: number | null;
}

/** Load a list page by page; `more` asks for the next one. */
export function usePages<T>(key: string, load: (token: string | null, signal: AbortSignal) => Promise<Page<T>>) {
  const first = useLoaded(key, (signal) => load(null, signal));
  const [rest, setRest] = useState<{ of: unknown; items: T[]; next: string | null }>({
    of: null,
    items: [],
    next: null,
  });
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<ApiError | null>(null);
  const further = first.value !== null && rest.of === first.value;
  const next = further ? rest.next : (first.value?.next ?? null);
  const items = [...(first.value?.items ?? []), ...(further ? rest.items : [])];
  const latest = useRef<unknown>(null);
  latest.current = first.value;
  const more = async () => {
    if (next === null || busy) return;
    const of = first.value;
    setBusy(true);
    setError(null);
    try {
      const found = await load(next, new AbortController().signal);
      if (latest.current === of) {
        setRest({ of, items: [...(further ? rest.items : []), ...found.items], next: found.next });
      }
    } catch (refused) {
      setError(known(refused));
    } finally {
      setBusy(false);
    }
  };
  return { ...first, error: first.error ?? error, items, next, more, busy, total: first.value?.total ?? null };
}

export function More({ list }: { list: { next: string | null; busy: boolean; more: () => void } }) {
  if (list.next === null) return null;
  return (
    <p class="more">
      <button type="button" onClick={list.more} disabled={list.busy}>
        {list.busy ? "Loading…" : "Show more"}
      </button>
    </p>
  );
}

export function Refusal({ error, again }: { error: ApiError; again?: () => void }) {
  return (
    <div class="refusal" role="alert">
      <p>
        {error.status > 0 && <span class="status">{error.status}</span>} <strong>{error.message}</strong>
      </p>
      <p class="quiet">
        {error.requestId && (
          <>
            Request <code>{error.requestId}</code>: an administrator finds it in the log under this id.{" "}
          </>
        )}
        {error.status === 401 && "Sign in again; then load this page anew."}
        {error.status === 403 && <a href="me">See what you may do, and why.</a>}
        {error.retryAfter && `The server asks to wait ${error.retryAfter} s.`}
      </p>
      {again && (
        <button type="button" onClick={again}>
          Try again
        </button>
      )}
    </div>
  );
}

/** Show a loaded value, or that it is on its way, or why it is not there. */
export function Show<T>({
  of,
  lines = 4,
  children,
}: {
  of: Loaded<T>;
  lines?: number;
  children: (value: T) => ComponentChildren;
}) {
  if (of.value !== null) return <>{children(of.value)}</>;
  if (of.error) return <Refusal error={of.error} again={of.again} />;
  return <Waiting lines={lines} />;
}

export function Waiting({ lines = 4 }: { lines?: number }) {
  return (
    <div class="waiting" role="status" aria-label="Loading">
      {Array.from({ length: lines }, (_, at) => (
        <span key={at} class={`line line-${at % 4}`} />
      ))}
    </div>
  );
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children && <p class="quiet">{children}</p>}
    </div>
  );
}

export function Time({ at }: { at: string | null | undefined }) {
  if (!at) return <span class="quiet">—</span>;
  return (
    <time dateTime={at} title={time(at)}>
      {since(at)}
    </time>
  );
}

export function Copy({ text, label = "Copy" }: { text: string; label?: string }) {
  const [done, setDone] = useState(false);
  useEffect(() => {
    if (!done) return;
    const timer = setTimeout(() => setDone(false), 1500);
    return () => clearTimeout(timer);
  }, [done]);
  return (
    <button
      type="button"
      class="copy"
      onClick={() => navigator.clipboard?.writeText(text).then(() => setDone(true), () => setDone(false))}
    >
      {done ? "Copied" : label}
      <span class="unseen" role="status">
        {done ? "Copied" : ""}
      </span>
    </button>
  );
}

export function Code({ text, name }: { text: string; name: string }) {
  return (
    <div class="code">
      <Copy text={text} label={`Copy ${name}`} />
      <pre tabIndex={0} aria-label={name}>
        <code>{text}</code>
      </pre>
    </div>
  );
}

/** Tabs whose choice is in the address; arrow keys move between them. */
export function Tabs({ tabs, chosen }: { tabs: [string, string][]; chosen: string }) {
  const list = useRef<HTMLDivElement>(null);
  const move = (event: KeyboardEvent) => {
    const at = tabs.findIndex(([key]) => key === chosen);
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -at, End: tabs.length - 1 - at }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const next = (at + step + tabs.length) % tabs.length;
    change({ tab: tabs[next]?.[0] });
    (list.current?.children[next] as HTMLElement | undefined)?.focus();
  };
  return (
    <div class="tabs" role="tablist" ref={list} onKeyDown={move}>
      {tabs.map(([key, label]) => (
        <button
          key={key}
          type="button"
          role="tab"
          id={`tab-${key}`}
          aria-selected={key === chosen}
          aria-controls="panel"
          tabIndex={key === chosen ? 0 : -1}
          onClick={() => change({ tab: key })}
        >
          {label}
        </button>
      ))}
    </div>
  );
}

export function Panel({ of, children }: { of: string; children: ComponentChildren }) {
  return (
    <div id="panel" role="tabpanel" aria-labelledby={`tab-${of}`} class="panel">
      {children}
    </div>
  );
}

export function Facts({ of }: { of: [string, ComponentChildren, string?][] }) {
  return (
    <dl class="facts">
      {of.map(([name, value, why]) => (
        <div key={name} title={why}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

export function Badge({ kind, children }: { kind?: string; children: ComponentChildren }) {
  return <span class={`badge ${kind ?? ""}`}>{children}</span>;
}

/** A field whose value goes to the address a moment after the last key. */
export function Search({ label, name, value }: { label: string; name: string; value: string }) {
  const id = useId();
  const [text, setText] = useState(value);
  const timer = useRef(0);
  const sent = useRef(value);
  useEffect(() => {
    if (value !== sent.current) {
      sent.current = value;
      setText(value);
    }
  }, [value]);
  return (
    <div class="field grow">
      <label htmlFor={id}>{label}</label>
      <input
        id={id}
        type="search"
        value={text}
        autocomplete="off"
        spellcheck={false}
        onInput={(event) => {
          const typed = event.currentTarget.value;
          setText(typed);
          clearTimeout(timer.current);
          timer.current = window.setTimeout(() => {
            sent.current = typed;
            change({ [name]: typed });
          }, 200);
        }}
      />
    </div>
  );
}

export function Choice({
  label,
  value,
  options,
  onChange,
}: {
  label: string;
  value: string;
  options: [string, string][];
  onChange: (value: string) => void;
}) {
  const id = useId();
  return (
    <div class="field">
      <label htmlFor={id}>{label}</label>
      <select id={id} value={value} onChange={(event) => onChange(event.currentTarget.value)}>
        {options.map(([key, text]) => (
          <option key={key} value={key} selected={key === value}>
            {text}
          </option>
        ))}
      </select>
    </div>
  );
}

/** Ask before what cannot be undone: the name has to be typed. */
export function Confirm({
  title,
  word,
  children,
  onYes,
  onNo,
}: {
  title: string;
  word: string;
  children: ComponentChildren;
  onYes: () => void;
  onNo: () => void;
}) {
  const box = useRef<HTMLDialogElement>(null);
  const id = useId();
  const [typed, setTyped] = useState("");
  const over = useRef(false);
  useLayoutEffect(() => {
    const dialog = box.current;
    const opener = document.activeElement;
    dialog?.showModal();
    return () => {
      over.current = true;
      dialog?.close();
      // It may be off until the answer is there.
      if (document.activeElement !== opener) hold(opener);
    };
  }, []);
  return (
    <dialog ref={box} onClose={() => over.current || onNo()} aria-labelledby={`${id}-title`}>
      <form
        method="dialog"
        onSubmit={(event) => {
          event.preventDefault();
          if (typed === word) onYes();
        }}
      >
        <h2 id={`${id}-title`}>{title}</h2>
        <p>{children}</p>
        <div class="field">
          <label htmlFor={id}>
            Type <code>{word}</code> to confirm
          </label>
          <input id={id} value={typed} autocomplete="off" onInput={(event) => setTyped(event.currentTarget.value)} />
        </div>
        <p class="buttons">
          <button type="button" onClick={onNo}>
            Cancel
          </button>
          <button type="submit" class="danger" disabled={typed !== word}>
            {title}
          </button>
        </p>
      </form>
    </dialog>
  );
}
