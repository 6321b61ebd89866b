// Who is in a notebook, where they look, and which cells they edit. This window is a member as long as its socket is open;
// without one, as long as it is in sight.
import { signal } from "@preact/signals";
import { ask, send, url } from "../api";
import { known } from "../parts";
import type { EventAnswer, MemberAnswer, PresenceAnswer } from "../types";
import type { Link } from "./socket";

/** Seconds between two signs of life; a member without one is gone after thirty. */
const SIGN = 12;
const MOMENT = 250;
/** Events that are kept, to be told again after an answer that was made before them. */
const KEPT = 256;

/** Who is in a session, as an answer tells it: ``seq`` is the last event that it knows of. */
type Told = Pick<PresenceAnswer, "session" | "seq" | "members" | "locks">;

export interface Lock {
  member: string;
  principal: string;
  until: number;
}

export class Presence {
  readonly members = signal<MemberAnswer[]>([]);
  readonly locks = signal<ReadonlyMap<string, Lock>>(new Map());
  /** The member that this window is; null: none yet. */
  readonly member = signal<string | null>(null);

  private focus: string | null = null;
  private timer = 0;
  private freeing = 0;
  private closed = true;
  private link: Link | null = null;
  /** Whether there is no socket, and requests tell that this window is here. */
  private asks = false;
  private session = "";
  /** The last events of the session. */
  private events: EventAnswer[] = [];
  private readonly seen = () => (document.hidden ? clearTimeout(this.timer) : this.soon(0));

  constructor(private readonly name: string) {}

  start(): void {
    this.closed = false;
    document.addEventListener("visibilitychange", this.seen);
  }

  /** There is no socket: be a member by requests. */
  alone(): void {
    if (this.asks) return;
    this.asks = true;
    this.soon(0);
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
    clearTimeout(this.freeing);
    document.removeEventListener("visibilitychange", this.seen);
    const member = this.member.peek();
    this.member.value = null;
    // Who was in by the socket goes with it.
    if (member === null || this.link) return;
    this.leave(member);
  }

  /** This window is a member by its socket now, and no other one. */
  joined(link: Link, session: string, member: string): void {
    this.follow(session);
    const before = this.member.peek();
    this.link = link;
    this.asks = false;
    this.member.value = member;
    if (before !== null && before !== member) this.leave(before);
    if (this.focus !== null) this.soon(0);
    else clearTimeout(this.timer);
  }

  left(link: Link): void {
    if (this.link !== link) return;
    this.link = null;
    this.member.value = null;
  }

  private leave(member: string): void {
    const path = `/v1/notebooks/${encodeURIComponent(this.name)}/session/members/${member}`;
    // A member that cannot say that it goes is gone after a while.
    send(url(path), { method: "DELETE", keepalive: true }).catch(() => undefined);
  }

  /** Tell the others which cell this window looks at. */
  look(cell: string | null): void {
    if (this.focus === cell) return;
    this.focus = cell;
    if (this.member.peek() !== null) this.soon(MOMENT);
  }

  /** The member is not known any more: the server was started again, or this window was away. */
  lost(): void {
    if (this.link) return;
    this.member.value = null;
    this.soon(0);
  }

  /** Events that come now are of this session; those of an earlier one say nothing of it. */
  follow(session: string): void {
    if (this.session !== session) this.events = [];
    this.session = session;
  }

  /** Take what an answer tells. It may come later than events that it does not know of: those hold. */
  take(found: Told): void {
    this.follow(found.session);
    this.members.value = found.members;
    this.hold(new Map(found.locks.map((one) => [one.cell, { member: one.member, principal: one.principal, until: Date.now() + one.seconds * 1000 }])));
    for (const event of this.events) if (event.seq > found.seq) this.change(event);
  }

  apply(event: EventAnswer): void {
    this.events = [...this.events.slice(1 - KEPT), event];
    this.change(event);
  }

  private change(event: EventAnswer): void {
    const { member, principal, writes, cell, seconds } = event.payload as { member: string; principal: string; writes: boolean; cell: string | null; seconds: number };
    const others = this.members.peek().filter((one) => one.member !== member);
    if (event.type === "adopted") {
      // Another server has the session now: who was in comes in again.
      this.members.value = [];
      this.hold(new Map());
    } else if (event.type === "joined") this.members.value = [...others, { member, principal, writes, focus: null }];
    else if (event.type === "left") {
      this.members.value = others;
      this.hold(new Map([...this.locks.peek()].filter(([, lock]) => lock.member !== member)));
    } else if (event.type === "focused") {
      this.members.value = this.members.peek().map((one) => (one.member === member ? { ...one, focus: cell } : one));
    } else if (event.type === "locked" && cell) {
      const who = this.members.peek().find((one) => one.member === member)?.principal ?? "another person";
      this.hold(new Map([...this.locks.peek(), [cell, { member, principal: who, until: Date.now() + seconds * 1000 }]]));
    } else if (event.type === "unlocked" && cell) {
      this.hold(new Map([...this.locks.peek()].filter(([key]) => key !== cell)));
    }
  }

  private hold(locks: Map<string, Lock>): void {
    clearTimeout(this.freeing);
    const now = Date.now();
    for (const [cell, { until }] of locks) if (until <= now) locks.delete(cell);
    if (locks.size || this.locks.peek().size) this.locks.value = locks;
    const next = Math.min(...[...locks.values()].map(({ until }) => until));
    if (locks.size) this.freeing = window.setTimeout(() => this.hold(new Map(this.locks.peek())), Math.max(50, next - now));
  }

  private soon(milliseconds: number): void {
    clearTimeout(this.timer);
    if (!this.closed) this.timer = window.setTimeout(() => void this.tell(), milliseconds);
  }

  private async tell(): Promise<void> {
    if (this.closed) return;
    const { focus, link } = this;
    if (link) {
      // A socket that ends says so by itself.
      await link.ask<PresenceAnswer>("focus", { focus }).then(
        (found) => this.take(found),
        () => undefined,
      );
      if (this.focus !== focus) this.soon(MOMENT);
      return;
    }
    if (document.hidden || !this.asks) return;
    const member = this.member.peek();
    const path = `/v1/notebooks/${encodeURIComponent(this.name)}/session/members`;
    try {
      const found = await ask<PresenceAnswer>("POST", path, JSON.stringify({ member, focus }));
      if (this.link || this.closed) {
        this.leave(found.member);
        return;
      }
      this.member.value = found.member;
      this.take(found);
    } catch (error) {
      const { status, code } = known(error);
      if (code === "not_joined" || status === 404) this.member.value = null;
    }
    this.soon(focus === this.focus ? SIGN * 1000 : MOMENT);
  }
}
