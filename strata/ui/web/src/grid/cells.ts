// The values of Arrow columns as text, exactly: 64-bit integers with all digits, decimals with their scale,
// timestamps to their last digit, nested values whole. Nothing goes through a floating-point number.
import { Type } from "apache-arrow";
import type { Data, DataType, Vector } from "apache-arrow";

/** How a cell is shown: its text, and what it is. */
export interface Cell {
  text: string;
  kind: "null" | "number" | "text" | "time" | "nested" | "binary" | "bool";
}

const NULL: Cell = { text: "null", kind: "null" };
const TEXT_CHARACTERS = 100_000;

/** Return a cell of a column. */
export function cell(column: Vector, row: number): Cell {
  let left = row;
  for (const data of column.data) {
    if (left < data.length) return of(data as Data, left);
    left -= data.length;
  }
  return NULL;
}

export function kindOf(type: DataType): Cell["kind"] {
  switch (type.typeId) {
    case Type.Bool:
      return "bool";
    case Type.Int:
    case Type.Float:
    case Type.Decimal:
      return "number";
    case Type.Date:
    case Type.Time:
    case Type.Timestamp:
      return "time";
    case Type.Binary:
    case Type.LargeBinary:
    case Type.FixedSizeBinary:
      return "binary";
    case Type.List:
    case Type.LargeList:
    case Type.FixedSizeList:
    case Type.Struct:
    case Type.Map:
      return "nested";
    case Type.Dictionary:
      return kindOf((type as { dictionary?: DataType }).dictionary ?? type);
    default:
      return "text";
  }
}

function of(data: Data, at: number): Cell {
  // A column of nothing but nulls has a type of its own, and no bits that say so.
  if (data.type.typeId === Type.Null || !data.getValid(at)) return NULL;
  const kind = kindOf(data.type);
  return { kind, text: textOf(data, at) };
}

// The shapes below are those of the Arrow columnar format; the library's types of them are per column type.
type Loose = {
  values: { [at: number]: number | bigint };
  valueOffsets: { [at: number]: number | bigint };
  children: Data[];
  dictionary?: Vector;
  length: number;
};

function textOf(data: Data, at: number): string {
  const type = data.type as DataType & Record<string, number | string>;
  const loose = data as unknown as Loose;
  switch (type.typeId) {
    case Type.Bool:
      return bit(data.values as Uint8Array, data.offset + at) ? "true" : "false";
    case Type.Int:
      return String(loose.values[at]);
    case Type.Float:
      return type["precision"] === 0 ? String(half(Number(loose.values[at]))) : float(Number(loose.values[at]));
    case Type.Decimal:
      return decimal(data.values as Uint32Array, at, Number(type["bitWidth"] ?? 128), Number(type["scale"]));
    case Type.Utf8:
    case Type.LargeUtf8:
      return utf8(slice(data.values as Uint8Array, loose, at));
    case Type.Binary:
    case Type.LargeBinary:
      return hex(slice(data.values as Uint8Array, loose, at));
    case Type.FixedSizeBinary: {
      const width = Number(type["byteWidth"]);
      return hex((data.values as Uint8Array).subarray(at * width, (at + 1) * width));
    }
    case Type.Date:
      return type["unit"] === 0
        ? date(BigInt(Number(loose.values[at])))
        : date(floorDiv(BigInt(loose.values[at] ?? 0), 86_400_000n));
    case Type.Time:
      return time(BigInt(loose.values[at] ?? 0), Number(type["unit"]));
    case Type.Timestamp:
      return timestamp(BigInt(loose.values[at] ?? 0), Number(type["unit"]), type["timezone"] as string | null);
    case Type.Dictionary: {
      const index = Number(loose.values[at]);
      return loose.dictionary ? cell(loose.dictionary, index).text : String(index);
    }
    case Type.List:
    case Type.LargeList: {
      const child = loose.children[0] as Data;
      return list(child, Number(loose.valueOffsets[at]), Number(loose.valueOffsets[at + 1]));
    }
    case Type.FixedSizeList: {
      const size = Number(type["listSize"]);
      return list(loose.children[0] as Data, at * size, (at + 1) * size);
    }
    case Type.Struct:
      return struct(data, at);
    case Type.Map: {
      const entries = loose.children[0] as Data;
      const [keys, values] = entries.children as [Data, Data];
      const parts: string[] = [];
      for (let i = Number(loose.valueOffsets[at]); i < Number(loose.valueOffsets[at + 1]); i++) {
        parts.push(`${inner(keys, i)}: ${inner(values, i)}`);
      }
      return `{${parts.join(", ")}}`;
    }
    default:
      return `(a value of type ${String(type)})`;
  }
}

function inner(data: Data, at: number): string {
  const found = of(data, at);
  return found.kind === "text" || found.kind === "time" ? JSON.stringify(found.text) : found.text;
}

function list(child: Data, from: number, to: number): string {
  const parts: string[] = [];
  for (let i = from; i < to; i++) parts.push(inner(child, i));
  return `[${parts.join(", ")}]`;
}

function struct(data: Data, at: number): string {
  const parts = data.type.children.map((field: { name: string }, i: number) => {
    return `${JSON.stringify(field.name)}: ${inner(data.children[i] as Data, at)}`;
  });
  return `{${parts.join(", ")}}`;
}

function bit(bytes: Uint8Array, at: number): boolean {
  return ((bytes[at >> 3] ?? 0) & (1 << (at & 7))) !== 0;
}

function slice(bytes: Uint8Array, loose: Loose, at: number): Uint8Array {
  return bytes.subarray(Number(loose.valueOffsets[at]), Number(loose.valueOffsets[at + 1]));
}

const decoder = new TextDecoder();

function utf8(bytes: Uint8Array): string {
  const text = decoder.decode(bytes.subarray(0, TEXT_CHARACTERS));
  return bytes.length > TEXT_CHARACTERS ? `${text}… (${bytes.length} bytes)` : text;
}

function hex(bytes: Uint8Array): string {
  const shown = [...bytes.subarray(0, 4096)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return bytes.length > 4096 ? `${shown}… (${bytes.length} bytes)` : shown;
}

function float(value: number): string {
  return Object.is(value, -0) ? "-0.0" : Number.isInteger(value) && Math.abs(value) < 1e16 ? `${value}.0` : String(value);
}

function half(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** Return a decimal of `bits` bits (little-endian words of 32) with `scale` digits behind the point. */
export function decimal(words: ArrayLike<number>, at: number, bits: number, scale: number): string {
  const length = bits / 32;
  let value = 0n;
  for (let i = length - 1; i >= 0; i--) value = (value << 32n) | BigInt((words[at * length + i] ?? 0) >>> 0);
  value = BigInt.asIntN(bits, value);
  const sign = value < 0n ? "-" : "";
  const digits = (value < 0n ? -value : value).toString();
  if (scale <= 0) return sign + digits + "0".repeat(value === 0n ? 0 : -scale);
  const padded = digits.padStart(scale + 1, "0");
  return `${sign}${padded.slice(0, -scale)}.${padded.slice(-scale)}`;
}

function floorDiv(value: bigint, by: bigint): bigint {
  const found = value / by;
  return value % by < 0n ? found - 1n : found;
}

/** Return a day, counted from 1970-01-01, as ISO 8601; years outside of 0 to 9999 have their sign. */
export function date(days: bigint): string {
  const shifted = days + 719_468n; // from 0000-03-01
  const era = floorDiv(shifted, 146_097n);
  const day = shifted - era * 146_097n;
  const year = (day - day / 1460n + day / 36_524n - day / 146_096n) / 365n;
  const rest = day - (365n * year + year / 4n - year / 100n);
  const month = (5n * rest + 2n) / 153n;
  const inMonth = rest - (153n * month + 2n) / 5n + 1n;
  const number = month < 10n ? month + 3n : month - 9n;
  const found = year + era * 400n + (number <= 2n ? 1n : 0n);
  const text = found < 0n ? `-${String(-found).padStart(4, "0")}` : String(found).padStart(4, "0");
  return `${text}-${String(number).padStart(2, "0")}-${String(inMonth).padStart(2, "0")}`;
}

const PER_SECOND = [1n, 1_000n, 1_000_000n, 1_000_000_000n];

function time(value: bigint, unit: number): string {
  const per = PER_SECOND[unit] ?? 1n;
  const seconds = floorDiv(value, per);
  const fraction = value - seconds * per;
  const two = (part: bigint) => String(part).padStart(2, "0");
  const clock = `${two(seconds / 3600n)}:${two((seconds / 60n) % 60n)}:${two(seconds % 60n)}`;
  if (fraction === 0n) return clock;
  return `${clock}.${String(fraction).padStart(unit * 3, "0").replace(/(000)+$/, "")}`;
}

/** Return a timestamp as ISO 8601; one with a zone is an instant, and is shown in UTC. */
export function timestamp(value: bigint, unit: number, zone: string | null): string {
  const day = (PER_SECOND[unit] ?? 1n) * 86_400n;
  const days = floorDiv(value, day);
  return `${date(days)} ${time(value - days * day, unit)}${zone ? "Z" : ""}`;
}
