// The addresses of names in the API: a name may have slashes, each part of it is written for an address.
import { ApiError } from "../api";

/** Return the path of a name; a browser would take parts that are dots for steps, and ask for another name. */
export function written(name: string): string {
  const parts = name.split("/");
  if (parts.some((part) => part === "." || part === "..")) {
    throw new ApiError(0, `A browser cannot ask for the name ${name}: parts of it are dots. Use a client in a program.`, null);
  }
  return parts.map(encodeURIComponent).join("/");
}

/** Return the id and the version in the URI of a result; null for any other text. */
export function parsed(uri: string): { artifact_id: string; version: number } | null {
  const found = /^strata:\/\/artifact\/([A-Za-z0-9_-]+)@v=([1-9]\d{0,14})$/.exec(uri.trim());
  return found?.[1] ? { artifact_id: found[1], version: Number(found[2]) } : null;
}
