// Load a value again and again while the page is in sight; what is hidden asks for nothing.
import { useEffect, useState } from "preact/hooks";
import { known } from "./parts";
import type { ApiError } from "./api";

export interface Live<T> {
  value: T | null;
  error: ApiError | null;
  loading: boolean;
  again: () => void;
  at: number | null;
}

export function useLive<T>(key: string, seconds: number, load: (signal: AbortSignal) => Promise<T>): Live<T> {
  const [state, setState] = useState<{ key: string; value: T | null; error: ApiError | null; at: number | null }>({
    key: "",
    value: null,
    error: null,
    at: null,
  });
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    let timer = 0;
    let stop = new AbortController();
    const next = () => {
      clearTimeout(timer);
      if (!document.hidden) timer = window.setTimeout(run, seconds * 1000);
    };
    const run = () => {
      stop.abort();
      stop = new AbortController();
      const { signal } = stop;
      load(signal)
        .then(
          (value) => !signal.aborted && setState({ key, value, error: null, at: Date.now() }),
          (error: unknown) =>
            // The last value stays in sight, with the reason why it is not newer.
            !signal.aborted && setState((old) => ({ ...old, key, value: old.key === key ? old.value : null, error: known(error) })),
        )
        .finally(() => !signal.aborted && next());
    };
    const seen = () => {
      if (document.hidden) {
        clearTimeout(timer);
        stop.abort();
      } else run();
    };
    run();
    document.addEventListener("visibilitychange", seen);
    return () => {
      clearTimeout(timer);
      stop.abort();
      document.removeEventListener("visibilitychange", seen);
    };
  }, [key, turn]);
  const current = state.key === key;
  return {
    value: current ? state.value : null,
    error: current ? state.error : null,
    loading: !current,
    at: current ? state.at : null,
    again: () => setTurn(turn + 1),
  };
}
