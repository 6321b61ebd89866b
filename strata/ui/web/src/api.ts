// Questions to the API. It answers with what this caller may see, and the pages show nothing else.
import type { Problem } from "./types";
import { ROOT } from "./router";

export type Query = Record<string, string | number | null | undefined>;

/** A refusal, with what a person needs to go on: the sentence, the status and the request's id. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    detail: string,
    readonly requestId: string | null,
    readonly code: string | null = null,
    readonly retryAfter: number | null = null,
    readonly problems: string[] = [],
  ) {
    super(detail);
  }
}

export function url(path: string, query: Query = {}): URL {
  const found = new URL(path.replace(/^\//, ""), ROOT);
  for (const [key, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") found.searchParams.set(key, String(value));
  }
  return found;
}

async function refusal(answer: Response): Promise<ApiError> {
  const id = answer.headers.get("X-Request-ID");
  let problem: Partial<Problem> = {};
  try {
    problem = (await answer.json()) as Partial<Problem>;
  } catch {
    // A proxy's own error need not be JSON.
  }
  const after = Number(answer.headers.get("Retry-After"));
  return new ApiError(
    answer.status,
    problem.detail ?? `The server, or a proxy before it, answered ${answer.status}.`,
    problem.request_id ?? id,
    problem.error ?? null,
    after > 0 ? after : null,
    (problem.errors ?? []).map(({ msg }) => String(msg)),
  );
}

export async function send(address: URL, options: RequestInit): Promise<Response> {
  let answer: Response;
  try {
    answer = await fetch(address, { credentials: "same-origin", ...options });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ApiError(0, "The server cannot be reached. The page goes on when it answers again.", null);
  }
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

export async function get<T>(path: string, query: Query = {}, signal?: AbortSignal): Promise<T> {
  const answer = await send(url(path, query), {
    headers: { Accept: "application/json" },
    ...(signal ? { signal } : {}),
  });
  return (await answer.json()) as T;
}

export async function ask<T>(method: string, path: string, body?: string, signal?: AbortSignal): Promise<T> {
  const headers: Record<string, string> = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await send(url(path), {
    method,
    headers,
    ...(body === undefined ? {} : { body }),
    ...(signal ? { signal } : {}),
  });
  return (await answer.json()) as T;
}
