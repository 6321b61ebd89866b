// What the caller may do with notebooks, as the server states it; the server decides again at each request.
import { me } from "../who";

export function may(scope: "read" | "write" | "execute"): boolean {
  const who = me.value;
  if (!who) return false;
  return who.unrestricted || who.scopes.includes("notebook:*") || who.scopes.includes(`notebook:${scope}`);
}
