// Who the caller is, as the server states it; null until it has answered.
import { signal } from "@preact/signals";
import type { MeAnswer } from "./types";

export const me = signal<MeAnswer | null>(null);
