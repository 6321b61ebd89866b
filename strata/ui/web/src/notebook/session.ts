// The live session of a notebook: results, what runs, what it prints. Events have numbers; after a break the
// window asks for those behind the last one that it has, and loads the state again where some have gone. They come by
// the session's WebSocket; where a proxy lets none through, by requests that wait for them.
import { signal } from "@preact/signals";
import type { Signal } from "@preact/signals";
import { ApiError, ask, get } from "../api";
import { known } from "../parts";
import type { EventAnswer, EventsAnswer, NotebookAnswer, SessionAnswer, SessionCellAnswer } from "../types";
import { Presence } from "./presence";
import { Link } from "./socket";
import type { Ending } from "./socket";

/** Seconds that a question waits for an event. */
const WAIT = 20;
const LONGEST = 10_000;
/** Milliseconds until a socket is tried again where none could be opened. */
const DEAF = 30_000;
/** Close codes after which the page opens the socket again without a word: the identity is stated anew. */
const RENEW = 4001;
/** Characters of a running cell's console that are kept in sight. */
const CONSOLE = 100_000;

export interface Printed {
  stream: string;
  text: string;
}

export interface CellState {
  /** What the session says of the cell; null: nothing yet. */
  found: SessionCellAnswer | null;
  status: string;
  console: Printed[];
  /** How the last run ended that left no result: why it was skipped. */
  skipped: string | null;
  reused: boolean;
}

const NEW: CellState = { found: null, status: "idle", console: [], skipped: null, reused: false };

export class NotebookSession {
  readonly connected = signal<"yes" | "no" | "refused">("yes");
  readonly error = signal<ApiError | null>(null);
  readonly busy = signal(false);
  readonly revision = signal(0);
  readonly loaded = signal(false);
  readonly presence: Presence;

  private cells = new Map<string, Signal<CellState>>();
  /** Each cell as it came last, to tell what has changed. */
  private readonly texts = new Map<string, string>();
  /** The event after which each cell has its status. */
  private readonly since = new Map<string, number>();
  private id = "";
  private seq = 0;
  /** The last event that an answer of this session knew of. */
  private told = 0;
  private stop = new AbortController();
  private link: Link | null = null;
  private deafUntil = 0;

  constructor(
    readonly name: string,
    /** Called when the notebook may have another revision. */
    private readonly onRevision: () => void,
    /** Called when a member has changed cells. */
    private readonly onEdited: (cells: string[], principal: string) => void = () => undefined,
  ) {
    this.presence = new Presence(name);
  }

  of(id: string): Signal<CellState> {
    let found = this.cells.get(id);
    if (!found) {
      found = signal(NEW);
      this.cells.set(id, found);
    }
    return found;
  }

  start(): void {
    this.stop = new AbortController();
    void this.follow(this.stop.signal);
    this.presence.start();
  }

  close(): void {
    this.stop.abort();
    const { link } = this;
    this.presence.close();
    link?.close();
  }

  /** Send edits of a revision over the socket; null: there is none, or they are too large for a frame. */
  edit(revision: number, edits: object[]): Promise<NotebookAnswer> | null {
    const { link } = this;
    return link && Link.fits(edits) ? link.ask<NotebookAnswer>("edit", { revision, edits }) : null;
  }

  async run(cells: string[] | null, force = false): Promise<void> {
    this.take(await ask<SessionAnswer>("POST", `/v1/notebooks/${encodeURIComponent(this.name)}/session/run`, JSON.stringify({ cells, force })));
  }

  async interrupt(): Promise<void> {
    this.take(await ask<SessionAnswer>("POST", `/v1/notebooks/${encodeURIComponent(this.name)}/session/interrupt`, "{}"));
  }

  /** Read the session again, as after a new revision: what is stale depends on it. */
  async load(): Promise<void> {
    const found = await get<SessionAnswer>(`/v1/notebooks/${encodeURIComponent(this.name)}/session`, {}, this.stop.signal);
    this.take(found);
  }

  private change(id: string, what: Partial<CellState>): void {
    const one = this.of(id);
    one.value = { ...one.peek(), ...what };
  }

  /** Numbers of events are those of this session from now on. */
  private goOn(session: string): void {
    if (this.id !== session) {
      this.since.clear();
      this.told = 0;
    }
    this.id = session;
    this.presence.follow(session);
  }

  private take(found: SessionAnswer): void {
    if (this.id !== found.session) {
      const first = this.id === "";
      this.goOn(found.session);
      // The events of a run that began before this window came are read from the first one on.
      const runs = found.cells.some(({ status }) => status === "running");
      this.seq = first && runs ? 0 : found.seq;
    }
    this.loaded.value = true;
    // Answers come by several connections: one that was made before another may come after it.
    if (found.seq < this.told) return;
    this.told = found.seq;
    for (const cell of found.cells) {
      const one = this.of(cell.id);
      const old = one.peek();
      const text = JSON.stringify(cell);
      const same = this.texts.get(cell.id) === text;
      this.texts.set(cell.id, text);
      // The answer may come later than events that it does not know of: those hold.
      const status = (this.since.get(cell.id) ?? 0) > found.seq ? old.status : cell.status;
      if (same && old.status === status) continue;
      one.value = { ...old, found: same ? old.found : cell, status };
    }
    this.presence.take(found);
    this.busy.value = found.cells.some(({ id }) => this.of(id).peek().status !== "idle");
    if (found.revision !== this.revision.peek()) {
      this.revision.value = found.revision;
      this.onRevision();
    }
  }

  private async follow(stop: AbortSignal): Promise<void> {
    let pause = 500;
    while (!stop.aborted) {
      await inSight(stop);
      try {
        if (!this.loaded.peek()) await this.load();
        if (await this.talk(stop)) {
          pause = 500;
          continue;
        }
        if (stop.aborted) return;
        const path = `/v1/notebooks/${encodeURIComponent(this.name)}/session/events`;
        const found = await get<EventsAnswer>(path, { after: this.seq, wait: WAIT }, stop);
        this.connected.value = "yes";
        this.error.value = null;
        pause = 500;
        const known = found.session === this.id && found.complete;
        if (known) {
          for (const event of found.events) this.apply(event);
          this.seq = found.seq;
        } else this.seq = found.seq;
        const ended = found.events.some(({ type }) => type === "ended");
        if (!known || ended || found.events.length === 0) await this.load();
      } catch (error) {
        if (stop.aborted) return;
        const refused = known(error);
        this.error.value = refused;
        this.connected.value = [401, 403, 404].includes(refused.status) ? "refused" : "no";
        await slept(Math.max(pause, (refused.retryAfter ?? 0) * 1000), stop);
        pause = Math.min(LONGEST, pause * 2);
        // Another life of the server may have begun.
        this.loaded.value = false;
      }
    }
  }

  /** Follow the session by its socket until that ends; false: none can be opened now. */
  private async talk(stop: AbortSignal): Promise<boolean> {
    if (Date.now() < this.deafUntil) return false;
    const hearer = {
      onEvent: (event: EventAnswer) => {
        this.seq = event.seq;
        this.apply(event);
        if (event.type === "ended") this.again();
      },
      onReload: (session: string, seq: number) => {
        this.goOn(session);
        this.seq = seq;
        this.again();
      },
    };
    const link = await Link.open(this.name, { session: this.id, seq: this.seq }, hearer, stop);
    if (!link) {
      // A request tells whether it is the server, the caller's rights, or only the socket.
      if (!stop.aborted) await this.load();
      this.deafUntil = Date.now() + DEAF;
      this.presence.alone();
      return false;
    }
    if (stop.aborted) {
      link.close();
      return true;
    }
    this.link = link;
    const { session, seq, complete, member } = link.hello;
    if (!complete) {
      this.goOn(session);
      this.seq = seq;
    }
    this.presence.joined(link, session, member);
    let ending: Ending;
    try {
      // Who is here, and what is stale, is not in the events.
      await this.load();
      this.connected.value = "yes";
      this.error.value = null;
      this.onRevision();
      ending = await link.ended;
    } finally {
      this.link = null;
      this.presence.left(link);
      link.close();
    }
    if (!stop.aborted && ending.code !== RENEW) {
      this.connected.value = "no";
      // Not all windows at once: the server has just come back.
      await slept(Math.random() * 400, stop);
    }
    // Why it ended, if it was the caller's rights, is said by the next request.
    if (!stop.aborted) await this.load();
    return true;
  }

  private asked = false;
  private reading = false;

  /** Read the session soon, once for all events of a moment. */
  private again(): void {
    this.asked = true;
    if (this.reading) return;
    this.reading = true;
    void (async () => {
      try {
        while (this.asked) {
          this.asked = false;
          await this.load();
        }
      } catch {
        // The socket ends soon, or the next event asks again.
      } finally {
        this.reading = false;
      }
    })();
  }

  private apply(event: EventAnswer): void {
    const { cell, text, stream, how, message } = event.payload as Record<string, string>;
    if (event.type === "edited") {
      const { cells, principal, revision, member } = event.payload as { cells: string[]; principal: string; revision: number; member: string };
      if (!member || member !== this.presence.member.peek()) this.onEdited(cells, principal);
      this.revision.value = Math.max(this.revision.peek(), revision);
      this.onRevision();
    }
    if (cell === undefined || !["queued", "started", "printed", "ended"].includes(event.type)) {
      this.presence.apply(event);
      return;
    }
    if (event.type !== "printed") this.since.set(cell, event.seq);
    if (event.type === "queued") this.change(cell, { status: "queued", skipped: null });
    else if (event.type === "started") this.change(cell, { status: "running", console: [], skipped: null });
    else if (event.type === "printed") {
      const old = this.of(cell).peek().console;
      this.change(cell, { console: joined(old, { stream: stream ?? "stdout", text: text ?? "" }) });
    } else {
      const skipped = how === "skipped" ? (message ?? "") : null;
      this.change(cell, { status: "idle", skipped, reused: how === "reused", console: [] });
    }
    this.busy.value = [...this.cells.values()].some((one) => one.peek().status !== "idle");
  }
}

function joined(old: Printed[], next: Printed): Printed[] {
  const last = old.at(-1);
  const found = last?.stream === next.stream ? [...old.slice(0, -1), { ...last, text: last.text + next.text }] : [...old, next];
  let size = found.reduce((sum, one) => sum + one.text.length, 0);
  while (size > CONSOLE && found[0]) {
    const cut = Math.min(found[0].text.length, size - CONSOLE);
    found[0] = { ...found[0], text: found[0].text.slice(cut) };
    size -= cut;
    if (!found[0].text) found.shift();
  }
  return found;
}

function slept(milliseconds: number, stop: AbortSignal): Promise<void> {
  return new Promise((done) => {
    const timer = setTimeout(done, milliseconds);
    stop.addEventListener("abort", () => {
      clearTimeout(timer);
      done();
    });
  });
}

/** Wait until the page is in sight: one that is hidden asks for nothing. */
function inSight(stop: AbortSignal): Promise<void> {
  if (!document.hidden) return Promise.resolve();
  return new Promise((done) => {
    const seen = () => {
      if (document.hidden && !stop.aborted) return;
      document.removeEventListener("visibilitychange", seen);
      done();
    };
    document.addEventListener("visibilitychange", seen);
    stop.addEventListener("abort", seen);
  });
}
