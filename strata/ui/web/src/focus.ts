// Where the focus goes when what had it is taken away, as by its own act: a row that is removed, a button that is
// off while its request is on the way. Without this, keys and screen readers would begin at the top of the page.

/** What had the focus last by key, and what is around it, from the inside out; empty once the person leaves it. */
let path: Element[] = [];

const AROUND = "section, form, details, [role=region], [role=tabpanel], main";

/** Take an element for the one that has the focus, as the one that opened a dialog which ends. */
export function hold(one: Element | null): void {
  path = [];
  for (let at = one; at; at = at.parentElement) path.push(at);
}

function mend(): void {
  const [last] = path;
  if (!last || document.activeElement !== document.body) return;
  if (last.isConnected) {
    if (!last.matches(":disabled")) (last as HTMLElement).focus({ preventScroll: true });
    return;
  }
  const left = path.find((one) => one.isConnected && one.matches(AROUND)) as HTMLElement | undefined;
  // A notebook gives the focus to its cells itself.
  if (!left || path.some(({ id }) => id === "notebook-cells")) return;
  if (!left.hasAttribute("tabindex")) left.tabIndex = -1;
  left.focus({ preventScroll: true });
}

/** Watch the pages below an element. */
export function keepFocus(root: Element): void {
  addEventListener("focusin", ({ target }) => target instanceof Element && hold(target));
  addEventListener("focusout", ({ target }) =>
    // Left by the person, to the browser's own controls: not brought back. What is removed is so a moment later.
    queueMicrotask(() => {
      const [last] = path;
      if (target === last && last?.isConnected && !last.matches(":disabled") && document.activeElement === document.body) hold(null);
    }),
  );
  addEventListener("pointerdown", () => hold(null), { capture: true });
  new MutationObserver(mend).observe(root, { childList: true, subtree: true, attributeFilter: ["disabled"] });
}
