// The WebSocket of a notebook's session: events come down, and what this window asks for goes up and is answered.
import { ApiError, url } from "../api";
import type { EventAnswer, Problem } from "../types";

/** Milliseconds in which a socket opens and greets, an answer comes, and any sign of life at all. */
const GREETING = 10_000;
const ANSWER = 30_000;
const SILENCE = 40_000;
/** Characters of a frame that the server takes; more goes as a request. */
const LARGEST = 100_000;

export interface Hello {
  session: string;
  member: string;
  principal: string;
  seq: number;
  /** False: the events do not go on where this window was, and the session has to be read. */
  complete: boolean;
}

export interface Ending {
  code: number;
  reason: string;
  message: string;
}

export interface Hearer {
  onEvent: (event: EventAnswer) => void;
  /** Events have gone from the log: the session has to be read, and they go on behind this one. */
  onReload: (session: string, seq: number) => void;
}

interface Question {
  done: (body: unknown) => void;
  failed: (error: ApiError) => void;
  timer: number;
}

export class Link {
  readonly ended: Promise<Ending>;
  private readonly questions = new Map<number, Question>();
  private last = 0;
  private watch = 0;
  private farewell: { reason: string; message: string } | null = null;
  private finish: (ending: Ending) => void = () => undefined;
  private closed = false;

  private constructor(
    private readonly socket: WebSocket,
    readonly hello: Hello,
    private readonly hearer: Hearer,
  ) {
    this.ended = new Promise((done) => {
      this.finish = done;
    });
    socket.onmessage = ({ data }) => this.heard(data);
    socket.onclose = ({ code }) => this.end(code);
    addEventListener("offline", this.offline);
    this.alive();
  }

  /** Open a socket that goes on behind an event; null: none can be opened, and a request tells why. */
  static open(notebook: string, after: { session: string; seq: number }, hearer: Hearer, stop: AbortSignal): Promise<Link | null> {
    const address = url(`/v1/notebooks/${encodeURIComponent(notebook)}/session`, { session: after.session, after: after.seq });
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    return new Promise((done) => {
      let socket: WebSocket;
      try {
        socket = new WebSocket(address);
      } catch {
        done(null);
        return;
      }
      const early: unknown[] = [];
      const give = (link: Link | null) => {
        clearTimeout(timer);
        stop.removeEventListener("abort", away);
        if (!link) socket.close();
        done(link);
      };
      const away = () => give(null);
      const timer = setTimeout(away, GREETING);
      stop.addEventListener("abort", away);
      socket.onclose = away;
      socket.onmessage = ({ data }) => {
        const frame = read(data);
        if (frame?.type !== "hello") {
          early.push(data);
          return;
        }
        const link = new Link(socket, frame.payload as unknown as Hello, hearer);
        give(link);
        for (const one of early) link.heard(one);
      };
    });
  }

  /** Whether a question fits into a frame. */
  static fits(payload: object): boolean {
    return JSON.stringify(payload).length < LARGEST;
  }

  ask<T>(type: string, payload: object): Promise<T> {
    if (this.closed || this.socket.readyState !== WebSocket.OPEN) return Promise.reject(lost());
    const id = ++this.last;
    return new Promise<T>((done, failed) => {
      const timer = window.setTimeout(() => {
        this.questions.delete(id);
        failed(lost());
        // What does not answer is not there.
        this.drop();
      }, ANSWER);
      this.questions.set(id, { done: done as (body: unknown) => void, failed, timer });
      this.socket.send(JSON.stringify({ type, id, payload }));
    });
  }

  close(): void {
    this.socket.close(1000);
    this.end(1000);
  }

  private readonly offline = () => this.drop();

  private drop(): void {
    this.socket.close();
    this.end(1006);
  }

  private alive(): void {
    clearTimeout(this.watch);
    this.watch = window.setTimeout(() => this.drop(), SILENCE);
  }

  private heard(data: unknown): void {
    if (this.closed) return;
    this.alive();
    const frame = read(data);
    if (!frame) return;
    const { type, payload } = frame;
    if (type === "reply") this.answered(payload as { id: number; status: number; body: unknown });
    else if (type === "reload") this.hearer.onReload(String(payload["session"]), Number(payload["seq"]));
    else if (type === "closed") this.farewell = { reason: String(payload["reason"]), message: String(payload["message"]) };
    else if (typeof frame.seq === "number") this.hearer.onEvent({ type, payload, seq: frame.seq });
  }

  private answered({ id, status, body }: { id: number; status: number; body: unknown }): void {
    const question = this.questions.get(id);
    if (!question) return;
    this.questions.delete(id);
    clearTimeout(question.timer);
    if (status < 400) question.done(body);
    else {
      const problem = (body ?? {}) as Partial<Problem>;
      question.failed(new ApiError(status, problem.detail ?? `The server answered ${status}.`, problem.request_id ?? null, problem.error ?? null));
    }
  }

  private end(code: number): void {
    if (this.closed) return;
    this.closed = true;
    clearTimeout(this.watch);
    removeEventListener("offline", this.offline);
    for (const { failed, timer } of this.questions.values()) {
      clearTimeout(timer);
      failed(lost());
    }
    this.questions.clear();
    this.finish({ code, reason: this.farewell?.reason ?? "", message: this.farewell?.message ?? "" });
  }
}

function lost(): ApiError {
  return new ApiError(0, "The connection was lost. The page goes on when the server answers again.", null);
}

function read(data: unknown): { type: string; payload: Record<string, unknown>; seq?: number } | null {
  try {
    const found = JSON.parse(String(data)) as { type: string; payload: Record<string, unknown>; seq?: number };
    return typeof found?.type === "string" ? { ...found, payload: found.payload ?? {} } : null;
  } catch {
    return null;
  }
}
