// The frame of all pages: where one is, who one is, and the page itself.
import { render } from "preact";
import type { ComponentType } from "preact";
import { signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { get } from "./api";
import { keepFocus } from "./focus";
import { Data } from "./pages/data";
import { Me } from "./pages/me";
import { Empty, known, Refusal, Waiting } from "./parts";
import type { ApiError } from "./api";
import type { MeAnswer } from "./types";
import { page } from "./router";
import { me } from "./who";

const refused = signal<ApiError | null>(null);

interface View {
  title: string;
  load: () => Promise<ComponentType>;
  shown?: (who: MeAnswer) => boolean;
  of?: string;
}

const admin = (who: MeAnswer) => who.unrestricted || who.scopes.some((scope) => scope.startsWith("admin:"));

const VIEWS: Record<string, View> = {
  data: { title: "Data", load: async () => Data },
  table: { title: "Table", load: async () => (await import("./pages/table")).Table, of: "data" },
  notebooks: { title: "Notebooks", load: async () => (await import("./pages/notebooks")).Notebooks },
  notebook: { title: "Notebook", load: async () => (await import("./pages/notebook")).Notebook, of: "notebooks" },
  results: { title: "Results", load: async () => (await import("./pages/results")).Results },
  result: { title: "Result", load: async () => (await import("./pages/result")).Result, of: "results" },
  name: { title: "Name", load: async () => (await import("./pages/name")).Name, of: "results" },
  console: { title: "Console", load: async () => (await import("./pages/console")).Console, shown: admin },
  tenant: { title: "Tenant", load: async () => (await import("./pages/tenant")).Tenant, of: "console" },
  me: { title: "Me", load: async () => Me },
  api: { title: "API", load: async () => (await import("./pages/reference")).Reference },
};

const THEMES = ["system", "light", "dark"] as const;

function useTheme(): [string, () => void] {
  const [theme, setTheme] = useState(() => stored("theme") ?? "system");
  useEffect(() => {
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    try {
      localStorage.setItem("theme", theme);
    } catch {
      // Without storage the choice lasts as long as the page.
    }
  }, [theme]);
  return [theme, () => setTheme(THEMES[(THEMES.indexOf(theme as "system") + 1) % THEMES.length] ?? "system")];
}

function stored(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

function Frame() {
  const [theme, turn] = useTheme();
  const view = VIEWS[page.value];
  const here = view?.of ?? page.value;
  const who = me.value;
  return (
    <>
      <a class="skip" href="#main">
        Skip to the content
      </a>
      <header class="top">
        <a class="brand" href="data">
          <svg viewBox="0 0 32 32" width="24" height="24" aria-hidden="true">
            <rect width="32" height="32" rx="7" class="logo-back" />
            <path d="M6 10l10-4 10 4-10 4z" class="logo-top" />
            <path d="M6 16l10 4 10-4M6 21.500l10 4 10-4" class="logo-lines" />
          </svg>
          Strata
        </a>
        <nav aria-label="Pages">
          {Object.entries(VIEWS)
            .filter(([, one]) => !one.of && (!one.shown || (who && one.shown(who))))
            .map(([name, one]) => (
              <a key={name} href={name} aria-current={name === here ? "page" : undefined}>
                {one.title}
              </a>
            ))}
        </nav>
        <div class="who">
          {who && (
            <a href="me" title="Who you are to this server">
              <strong>{who.principal}</strong>
              <span>{who.tenant}</span>
            </a>
          )}
          <button type="button" class="icon" onClick={turn} aria-label={`Colours: ${theme}. Change`} title={`Colours: ${theme}`}>
            {theme === "light" ? "☀" : theme === "dark" ? "☾" : "◐"}
          </button>
        </div>
      </header>
      <main id="main" tabIndex={-1}>
        {refused.value && !who ? <Refusal error={refused.value} again={learn} /> : <Body name={page.value} />}
      </main>
    </>
  );
}

function Body({ name }: { name: string }) {
  const [found, setFound] = useState<{ name: string; part: ComponentType } | null>(null);
  const [failed, setFailed] = useState<string | null>(null);
  const view = VIEWS[name];
  useEffect(() => {
    if (!view) return;
    document.title = `${view.title} · Strata`;
    let current = true;
    view.load().then(
      (part) => current && setFound({ name, part }),
      (error: unknown) => current && setFailed(known(error).message),
    );
    return () => {
      current = false;
    };
  }, [name]);
  if (!view) {
    return (
      <>
        <h1>No such page</h1>
        <p>
          <a href="data">Go to the data.</a>
        </p>
      </>
    );
  }
  if (failed) {
    return (
      <Empty title="This page could not be loaded">
        {failed} If the server was updated, <a href={location.href} target="_self">load the page anew</a>.
      </Empty>
    );
  }
  if (found?.name !== name) return <Waiting lines={8} />;
  const Part = found.part;
  return <Part />;
}

async function learn(): Promise<void> {
  try {
    me.value = await get<MeAnswer>("/v1/me");
    refused.value = null;
  } catch (error) {
    refused.value = known(error);
  }
}

void learn();
const root = document.getElementById("app");
if (root) {
  render(<Frame />, root);
  keepFocus(root);
}
