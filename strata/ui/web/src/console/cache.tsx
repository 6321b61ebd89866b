// The cache of the caller's team.
import { useState } from "preact/hooks";
import { ask, get } from "../api";
import type { ApiError } from "../api";
import { bytes, count, rate } from "../format";
import { useLive } from "../live";
import { Confirm, Facts, known, Refusal, Show } from "../parts";
import type { CacheStatsAnswer } from "../types";
import { me } from "../who";

const SECONDS = 5;

export function Cache() {
  const stats = useLive("cache", SECONDS, (signal) => get<CacheStatsAnswer>("/v1/cache/stats", {}, signal));
  const [asking, setAsking] = useState(false);
  const [told, setTold] = useState("");
  const [error, setError] = useState<ApiError | null>(null);
  const clear = async () => {
    setAsking(false);
    setError(null);
    try {
      await ask("POST", "/v1/cache/clear");
      setTold("The cache is cleared.");
      stats.again();
    } catch (refused) {
      setError(known(refused));
    }
  };
  return (
    <>
      {error && <Refusal error={error} />}
      <Show of={stats}>
        {(found) => (
          <Facts
            of={[
              ["Hits", count(found.hits), "Row groups that were read from the cache"],
              ["Misses", count(found.misses), "Row groups that were read from the table's files"],
              ["Hit rate", rate(found.hit_rate)],
              ["Segments", count(found.segments), "Row groups that the cache holds now"],
              ["Size", `${bytes(found.size_bytes)} of ${bytes(found.max_size_bytes)}`],
              ["Evicted", count(found.evictions), "Segments that made room for others"],
              ["Damaged", count(found.damaged), "Segments whose bytes on disk had changed; they are read again"],
            ]}
          />
        )}
      </Show>
      <p class="buttons left">
        <button type="button" class="danger" onClick={() => setAsking(true)}>
          Clear the cache
        </button>
        <span role="status" class="quiet">
          {told}
        </span>
      </p>
      {asking && (
        <Confirm title="Clear the cache" word={me.value?.tenant ?? ""} onYes={() => void clear()} onNo={() => setAsking(false)}>
          Your team's next scans read the files of their tables again. Results stay.
        </Confirm>
      )}
    </>
  );
}
