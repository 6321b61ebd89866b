// Read an Arrow stream batch by batch, up to a number of rows.
import { RecordBatchReader, Table } from "apache-arrow";
import { send } from "../api";

/** Rows that one view holds in the browser's memory at most. */
export const MOST_ROWS = 1_000_000;
/** Bytes of them; the batch that goes beyond is the last one. */
export const MOST_BYTES = 512 * 2 ** 20;

export interface Rows {
  table: Table;
  /** Whether there are more rows than were read. */
  cut: boolean;
  /** Name of the result that was read. */
  artifact: string | null;
  milliseconds: number;
}

export async function read(address: URL, options: RequestInit, most = MOST_ROWS): Promise<Rows> {
  const began = performance.now();
  const headers = { Accept: "application/vnd.apache.arrow.stream", ...(options.headers as object) };
  const answer = await send(address, { ...options, headers });
  const reader = await RecordBatchReader.from(answer.body as ReadableStream<Uint8Array>);
  await reader.open();
  const batches = [];
  let rows = 0;
  let bytes = 0;
  let cut = false;
  for await (const batch of reader) {
    if (rows + batch.numRows > most || bytes > MOST_BYTES) {
      if (bytes <= MOST_BYTES) batches.push(batch.slice(0, most - rows));
      cut = true;
      await answer.body?.cancel().catch(() => undefined);
      break;
    }
    batches.push(batch);
    rows += batch.numRows;
    bytes += batch.data.byteLength;
  }
  return {
    table: new Table(reader.schema, batches),
    cut,
    artifact: answer.headers.get("X-Strata-Artifact-Uri"),
    milliseconds: performance.now() - began,
  };
}
