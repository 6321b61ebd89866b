// The state of a view is its address: `/ui/<page>?<parameters>`. All pages are one level below the prefix, so
// that relative addresses find the API, the files and each other below whatever path a proxy adds.
import { computed, signal } from "@preact/signals";

/** The folder of the pages (`…/ui/`) and, above it, the root of the API. */
export const PAGES = new URL("./", document.baseURI);
export const ROOT = new URL("../", PAGES);

const address = signal(location.pathname + location.search);

export const page = computed(() => {
  const path = address.value.split("?", 1)[0] ?? "";
  return decodeURIComponent(path.slice(path.lastIndexOf("/") + 1));
});

export const parameters = computed(() => {
  const at = address.value.indexOf("?");
  return new URLSearchParams(at < 0 ? "" : address.value.slice(at + 1));
});

export type Parameters = Record<string, string | number | null | undefined>;

/** Return the relative address of a view; empty parameters are left out. */
export function href(name: string, values: Parameters = {}): string {
  const found = new URLSearchParams();
  for (const [key, value] of Object.entries(values)) {
    if (value !== null && value !== undefined && value !== "") found.set(key, String(value));
  }
  const query = found.toString();
  return query ? `${name}?${query}` : name;
}

export function go(target: string, { replace = false } = {}): void {
  const url = new URL(target, PAGES);
  const before = page.peek();
  if (replace) history.replaceState(null, "", url);
  else history.pushState(null, "", url);
  address.value = url.pathname + url.search;
  if (!replace && page.peek() !== before) {
    scrollTo(0, 0);
    document.getElementById("main")?.focus({ preventScroll: true });
  }
}

/** Change parameters of the view that is shown; null or "" removes one. */
export function change(values: Parameters, options = { replace: true }): void {
  const all = Object.fromEntries(parameters.peek());
  go(href(page.peek(), { ...all, ...values }), options);
}

addEventListener("popstate", () => {
  address.value = location.pathname + location.search;
});

// Links within the pages change the view without loading the document again.
addEventListener("click", (event) => {
  if (event.defaultPrevented || event.button !== 0) return;
  if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const link = event.target instanceof Element ? event.target.closest("a") : null;
  if (!link || link.target || link.hasAttribute("download")) return;
  const url = new URL(link.href);
  if (url.origin !== location.origin || !url.pathname.startsWith(PAGES.pathname)) return;
  if (url.hash && url.pathname === location.pathname && url.search === location.search) return;
  event.preventDefault();
  go(url.href);
});
