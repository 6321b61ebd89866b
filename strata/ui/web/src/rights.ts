// What the caller may do, as the server states it; the server decides again at each request.
import { me } from "./who";

/** Return whether the caller has a scope, or one that stands for it. */
export function has(scope: string): boolean {
  const who = me.value;
  if (who === null) return false;
  const family = scope.startsWith("admin:") ? "admin:*" : scope.startsWith("notebook:") ? "notebook:*" : scope;
  return who.unrestricted || who.scopes.includes(scope) || who.scopes.includes(family);
}

/** Return whether the caller may name, tag and remove results. */
export function writes(): boolean {
  return me.value?.checks.find(({ what }) => what === "direct writes")?.allowed ?? false;
}

/** Return whether the caller may pin results: the writers, and those who may do that alone. */
export function pins(): boolean {
  const check = me.value?.checks.find(({ what }) => what === "direct writes");
  return check !== undefined && (check.allowed || (check.error !== "writes_disabled" && has("artifacts:pin")));
}
