// What a person does by a button: the request, and then what was done or why it was refused.
import { useState } from "preact/hooks";
import type { ApiError } from "./api";
import { known, Refusal } from "./parts";

export interface Act {
  busy: boolean;
  error: ApiError | null;
  told: string;
  /** Do it, and say the sentence that it returns; returns whether it was done. */
  run: (what: () => Promise<string>) => Promise<boolean>;
}

export function useAct(): Act {
  const [state, setState] = useState<{ busy: boolean; error: ApiError | null; told: string }>({ busy: false, error: null, told: "" });
  const run = async (what: () => Promise<string>) => {
    setState({ busy: true, error: null, told: "" });
    try {
      const told = await what();
      setState({ busy: false, error: null, told });
      return true;
    } catch (refused) {
      setState({ busy: false, error: known(refused), told: "" });
      return false;
    }
  };
  return { ...state, run };
}

export function Told({ of }: { of: Act }) {
  return (
    <>
      {of.error && <Refusal error={of.error} />}
      <p role="status" class={of.told ? "told" : "unseen"}>
        {of.told}
      </p>
    </>
  );
}
