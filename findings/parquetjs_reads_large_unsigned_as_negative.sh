#!/usr/bin/env bash
# Software: @dsnp/parquetjs 1.8.8 (npm), pyarrow 26.0.1 as the writer; hyparquet 1.33.0 (npm) as the control.
# Guess: a column of unsigned integers is read as it was written, as its type is known: the schema that the library
#   shows says UINT_32 and UINT_64.
# Instead: each number whose highest bit is set comes back negative, 4294967295 as -1, since the stored bits are taken
#   as a signed integer; and the library refuses to write such a number though UINT_32 and UINT_64 are among its
#   types. Numbers of 8 and 16 bits are right, as these do not reach that bit. No error, no warning.
# Right: parquet-format, LogicalTypes.md, "Unsigned Integers": the annotation says how the stored bits are to be read.
# Seen:
#   types: UINT_8 UINT_16 UINT_32 UINT_64
#   parquetjs: 255 65535 -1 -1
#   hyparquet: 255 65535 4294967295 18446744073709551615
#   parquetjs writes 4000000000 as UINT_32: RangeError
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check pyarrow==26.0.1
npm install --silent --no-audit --no-fund --prefix "$work" @dsnp/parquetjs@1.8.8 hyparquet@1.33.0
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import pyarrow as pa
import pyarrow.parquet as pq

kinds = {"a": pa.uint8(), "b": pa.uint16(), "c": pa.uint32(), "d": pa.uint64()}
largest = {name: pa.array([2**kind.bit_width - 1], kind) for name, kind in kinds.items()}
pq.write_table(pa.table(largest), "file.parquet", compression="none")
PYTHON
cat >run.mjs <<'JAVASCRIPT'
import parquetjs from '@dsnp/parquetjs';
import { asyncBufferFromFile, parquetReadObjects } from 'hyparquet';

const show = (row) => Object.values(row).map(String).join(' ');
const reader = await parquetjs.ParquetReader.openFile('file.parquet');
const seen = { types: Object.values(reader.schema.fields).map((field) => field.originalType).join(' ') };
seen.parquetjs = show(await reader.getCursor().next());
await reader.close();
seen.hyparquet = show((await parquetReadObjects({ file: await asyncBufferFromFile('file.parquet') }))[0]);
const schema = new parquetjs.ParquetSchema({ x: { type: 'UINT_32' } });
const writer = await parquetjs.ParquetWriter.openFile(schema, 'written.parquet');
let outcome = 'written';
try {
  await writer.appendRow({ x: 4000000000 });
  await writer.close();
} catch (error) {
  outcome = error.name;
}
seen['parquetjs writes 4000000000 as UINT_32'] = outcome;
const expected = {
  types: 'UINT_8 UINT_16 UINT_32 UINT_64',
  parquetjs: '255 65535 -1 -1',
  hyparquet: '255 65535 4294967295 18446744073709551615',
  'parquetjs writes 4000000000 as UINT_32': 'RangeError',
};
for (const [what, value] of Object.entries(seen)) console.log(`${what}: ${value}`);
const changed = Object.keys(expected).filter((what) => seen[what] !== expected[what]);
if (changed.length) {
  console.error(`changed: ${changed.join(', ')}`);
  process.exit(1);
}
JAVASCRIPT
node run.mjs
