"""The independent half of the differential test: makes a source of nasty values, and says what must arrive.

    reference.py make KIND FOLDER SEED [URL]   writes the source, and expected.json as other readers read it
    reference.py compare FOLDER                compares expected.json with got.ndjson and invalid.json

One row holds one value: `id` is its name, and all columns but one are null. What must arrive is written by the
contract in docs/types.md, from what psycopg, sqlite3, csv, json, pyarrow and DuckDB read.
"""

import base64
import csv
import datetime as dt
import io
import json
import math
import pathlib
import random
import re
import struct
import sys
from decimal import Decimal, getcontext

getcontext().prec = 1000
EPOCH = dt.datetime(1970, 1, 1)
FIRST, LAST = -62135596800 * 10**6, 253402300800 * 10**6
INVALID, NULL = {"invalid": True}, {"null": True}
TEXTS = ["", " ", "a", " a ", "O'Brien", 'say "hi"', "a,b;c\td", "two\nlines", "cr\r\nlf", "\\N", "NULL", "null", "NaN",
         "007", "1e5", "+5", "-0", "true", "Zoë", "Zoe\u0308", "株式会社", "😀", "\u0001", "\u2028", "\ufeffbom", "\ufffd",
         "=1+1", "x" * 70_000, "{\"a\":1}", "%s", "\\u0041", "'; DROP TABLE t; --"]
INTS = [0, 1, -1, 7, 2**31 - 1, -2**31, 2**53, 2**53 + 1, 2**63 - 1, -2**63]
FLOATS = [0.0, -0.0, 0.1, 1.5, -2.25, 123.0, 1e16, 1e300, -1e-300, 5e-324, 1.7976931348623157e308, 3.14, 2.0**53 + 2]
DECIMALS = ["0", "0.00", "1.10", "-12.50", "0.000000000000000001", "12345678901234567890.0123456789", "99999999999999999999"]
DAYS = ["0001-01-01", "1582-10-10", "1899-12-31", "1970-01-01", "2000-02-29", "2026-11-30", "9999-12-31"]
# Written out they would have a billion digits, or their exponents lie where 64 bits end.
FAR = ["1e999999999", "-1.5e-999999999", "1e1000000000", "1e9223372036854775807", "1e-9223372036854775808", "1.5e-9223372036854775808"]
MICROS = [0, 1, -1, 10**6, 1767225600123456, -11644473600000000, FIRST, LAST - 1, 951782399999999]


class Digits(str):
    """A JSON number as it is written."""


def digits(value):
    """The number in the form of the contract: every digit, an exponent written out unless that takes more than 100 digits."""
    written = str(value)
    sign, whole, part, exponent = re.fullmatch(r"([-+]?)(\d*)\.?(\d*)(?:[eE]([-+]?\d+))?", written).groups()
    sign = sign.replace("+", "")
    if exponent is None:
        return sign + (whole.lstrip("0") or "0") + (f".{part}" if part else "")
    exponent = int(exponent)
    point = len(whole) + exponent
    if max(point, 0, len(whole)) + max(len(part) - exponent, 0) <= 100:
        return format(Decimal(written), "f")
    significant = (whole + part).lstrip("0")
    power = point - (len(whole + part) - len(significant)) - 1
    return f"{sign}{significant[0]}{'.' * (len(significant) > 1)}{significant[1:]}e{power}" if significant else "0"


def num(value): return {"num": digits(value)}
def text(value): return {"text": value}
def boolean(value): return {"bool": value}
def document(value): return {"json": value}


def floating(value):
    """The shortest digits of a double are what Python's repr gives."""
    return {"float": repr(value)} if math.isfinite(value) else INVALID


def shortest(value, form):
    """The shortest digits that are the same number in `form` of struct."""
    if not math.isfinite(value):
        return INVALID
    for digits in range(1, 18):
        short = f"{value:.{digits - 1}e}"
        try:
            if struct.pack(form, float(short)) == struct.pack(form, value):
                return {"float": short}
        except OverflowError:  # rounded up beyond the largest number
            continue


def instant(nanos, zone):
    micros, rest = divmod(nanos, 1000)
    if rest or not FIRST <= micros < LAST:
        return INVALID
    return {"zoned" if zone else "local": micros}


def day(days):
    return {"day": days} if -719162 <= days <= 2932896 else INVALID


def time(nanos):
    return {"time": nanos // 1000} if nanos % 1000 == 0 and 0 <= nanos < 86400 * 10**9 else INVALID


def plain(value):
    """A nested value with numbers as they are written, as JSON's reader below makes them."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, (int, Decimal)):
        return Digits(format(Decimal(value), "f"))
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return value


class Table:
    """Values by column, and what must arrive of them."""

    def __init__(self, seed):
        self.random, self.columns, self.expected = random.Random(seed), {}, {}

    def add(self, column, values, want):
        self.columns[column] = list(values)
        for place, value in enumerate(self.columns[column]):
            self.expected[f"{column}-{place}"] = {"column": column, "want": NULL if value is None else want(value)}

    def rows(self):
        """(id, column, value) for each value."""
        return [(f"{column}-{at}", column, value) for column, values in self.columns.items() for at, value in enumerate(values)]

    def text(self):
        letters = "abcXYZ019 ,;\"'\\\n\r\t{}[]:-_.äßé株😀\u0301\u200b"
        return "".join(self.random.choice(letters) for _ in range(self.random.randrange(0, 30)))

    def int(self, bits=63): return self.random.randrange(-2**bits, 2**bits) >> self.random.randrange(bits)
    def float(self): return struct.unpack("<d", self.random.randbytes(8))[0]
    def decimal(self, whole=18, scale=9):
        sign, digits = self.random.choice(["", "-"]), str(self.random.randrange(10 ** self.random.randrange(1, whole)))
        return f"{sign}{digits}.{self.random.randrange(10**scale):0{scale}d}"
    def micros(self): return self.random.randrange(FIRST, LAST)
    def some(self, make, count=40): return [make() for _ in range(count)]

    def nested(self, depth=0):
        kind = self.random.randrange(8 if depth < 4 else 5)
        if kind == 0: return None
        if kind == 1: return self.random.choice([True, False])
        if kind == 2: return self.int()
        if kind == 3: return Decimal(self.decimal())
        if kind == 4: return self.text()
        if kind < 7: return [self.nested(depth + 1) for _ in range(self.random.randrange(4))]
        return {self.text(): self.nested(depth + 1) for _ in range(self.random.randrange(4))}


def dumps(value):
    """JSON with every digit of a decimal."""
    if isinstance(value, Digits): return str(value)
    if isinstance(value, Decimal): return format(value, "f")
    if isinstance(value, list): return "[" + ", ".join(map(dumps, value)) + "]"
    if isinstance(value, dict): return "{" + ",".join(f"{json.dumps(name)}: {dumps(item)}" for name, item in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else json.dumps(value)


def loads(value): return json.loads(value, parse_float=Digits, parse_int=Digits)


def has_twins(value):
    """True if some object of the JSON text has a name twice."""
    seen = []
    json.loads(value, object_pairs_hook=lambda pairs: seen.append(len(dict(pairs)) < len(pairs)))
    return any(seen)


def has_half(value):
    """True if some text within is not Unicode."""
    if isinstance(value, str): return any(0xD800 <= ord(letter) < 0xE000 for letter in value)
    if isinstance(value, list): return any(map(has_half, value))
    return isinstance(value, dict) and any(has_half(part) for pair in value.items() for part in pair)


def json_want(value):
    """What must arrive of a JSON value: a scalar is what it is."""
    if has_half(value): return INVALID
    if value is None: return NULL
    if isinstance(value, bool): return boolean(value)
    if isinstance(value, Digits): return {"num": value}  # as it is written
    return text(value) if isinstance(value, str) else document(dumps(value))


def ndjson(folder, table):
    raws = [dumps(value) for value in TEXTS + [None, True, False, [], {}, [None], {"a": None}, {"": {"b": [1, "1"]}}]]
    raws += ["1e400", "-0", "0.10", "12345678901234567890.5", "9007199254740993", "1E-7", "\"\\ud83d\"", "{\"a\":\"\\ude00\"}",
             "\"\\ud83d\\ude00\"", "\"\\u0000\"", "\"a\\/b\"", "{ \"b\" : [ 1.50 , \"x\" ] }"]
    raws += [*FAR, f"[{FAR[-1]}]"]
    raws += [dumps(table.nested()) for _ in range(300)]
    names = ["v", "a b", "dotted.name", "no"]
    lines = []
    for place, raw in enumerate(raws):
        name = names[place % len(names)]
        lines.append(f'{{"id":"{name}-{place}",{json.dumps(name)}: {raw}}}')
    (folder / "data.ndjson").write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    for line in (folder / "data.ndjson").read_text(encoding="utf-8-sig").split("\n"):
        row = loads(line)
        (name, value), = [pair for pair in row.items() if pair[0] != "id"]
        table.expected[row["id"]] = {"column": name, "want": json_want(value)}
        table.columns.setdefault(name, []).append(value)


# Typed CSV cells by the conversions of the contract; what is not listed is made at random, and read by Python's own types.
CSV_CELLS = {
    "int": {"0": num(0), "-7": num(-7), " 12 ": num(12), "12.00": num(12), "1e3": num(1000), "12.5": INVALID, "n/a": INVALID,
            "9223372036854775807": num(2**63 - 1), "9223372036854775808": INVALID, "\\N": INVALID} | dict.fromkeys(FAR, INVALID),
    "decimal": {"+5": num(5), ".5": num("0.5"), "007": num(7), "1e5": num(100000), "1,234.50": INVALID, "NULL": INVALID,
                "12345678901234567890.0123456789": num("12345678901234567890.0123456789"), "NaN": INVALID}
               | {far: num(far) for far in FAR[:2]} | dict.fromkeys(FAR[2:], INVALID),
    "float": {"0.1": floating(0.1), "1e300": floating(1e300), "x": INVALID, "NaN": INVALID, "inf": INVALID, FAR[0]: INVALID, FAR[1]: floating(0.0), FAR[2]: INVALID}
             | dict.fromkeys(FAR[3:], INVALID),
    "bool": {word: boolean(word.lower() in {"true", "t", "yes", "y", "1", "on"})
             for word in ["true", "FALSE", "t", "f", "yes", "No", "1", "0", "on", "off"]} | {"2": INVALID, "maybe": INVALID},
    "date": {"2026-01-02": {"day": 20455}, "02.01.2026": INVALID, "2026-02-30": INVALID, "0000-01-01": INVALID},
    "timestamp": {"2026-01-02 03:04:05": {"local": 1767323045 * 10**6}, "2026-01-02T03:04:05.5": {"local": 1767323045500000},
                  "2026-01-02T25:00:00": INVALID, "soon": INVALID, "2026-01-02T03:04:05.1234567": INVALID},
    "timestamp_tz": {"2026-01-02T03:04:05+01:00": {"zoned": 1767319445 * 10**6}, "2026-01-02 03:04:05Z": {"zoned": 1767323045 * 10**6},
                     "2026-01-02 03:04:05+00": {"zoned": 1767323045 * 10**6}, "2026-01-02 03:04:05": {"zoned": 1767323045 * 10**6}},
    "json": {"{\"a\": 1.10}": document('{"a":1.10}'), "not json": INVALID, "1,\"email\":\"x\"": INVALID, "\"\\ud83d\"": INVALID,
             "null": NULL, "12.50": num("12.50"), **{far: json_want(loads(far)) for far in FAR}, "[" * 2000 + "]" * 2000: INVALID},
}
CSV_CELLS["json"].pop("[" * 2000 + "]" * 2000)  # Python's reader recurses; depth has a test of its own.


def make_csv(folder, table):
    rows = [(f"plain-{at}", "plain", value) for at, value in enumerate(TEXTS + table.some(table.text, 300))]
    for kind, cells in CSV_CELLS.items():
        more = {"int": lambda: str(table.int()), "decimal": table.decimal, "float": lambda: repr(table.float()),
                "json": lambda: dumps(table.nested())}.get(kind)
        values = list(cells) + (table.some(more) if more else [])
        rows += [(f"{kind}-{at}", kind, value) for at, value in enumerate(values)]
    header = ["id", "plain", *CSV_CELLS]
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    quoted = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(header)
    for key, column, value in rows:
        table.random.choice([writer, quoted]).writerow([key] + [value if name == column else "" for name in header[1:]])
    (folder / "data.csv").write_text("\ufeff" + out.getvalue(), encoding="utf-8", newline="")
    with open(folder / "data.csv", encoding="utf-8-sig", newline="") as file:
        csv.field_size_limit(10**9)
        for row in csv.DictReader(file):
            column = row["id"].rsplit("-", 1)[0]
            cell = row[column]
            known = CSV_CELLS.get(column, {}).get(cell)
            if cell == "": want = NULL
            elif known: want = known
            elif column == "int": want = num(int(cell))
            elif column == "decimal": want = num(cell)
            elif column == "float": want = floating(float(cell))
            elif column == "json": want = json_want(loads(cell))
            else: want = text(cell)
            table.expected[row["id"]] = {"column": column, "want": want}
            table.columns.setdefault(column, []).append(cell)


def make_sqlite(folder, table):
    import sqlite3
    source = folder / "data.db"
    base = sqlite3.connect(source)
    ints, floats = INTS + table.some(table.int), FLOATS + [x for x in table.some(table.float) if math.isfinite(x)]
    texts = TEXTS + table.some(table.text)
    values = {
        ("c_int", "INTEGER"): ints,
        ("c_real", "REAL"): floats + [1, 2],
        ("c_dec", "DECIMAL(10,2)"): [10, 12.5, None, *ints, *floats],
        ("c_text", "TEXT"): texts,
        ("c_bool", "BOOLEAN"): [0, 1, None],
        ("c_blob", "BLOB"): [b"", b"\x00\xff", table.random.randbytes(40)],
        ("c_any", ""): [*ints, *floats, *texts, None],
    }
    base.execute("CREATE TABLE t (id TEXT, " + ", ".join(f"{name} {kind}" for name, kind in values) + ")")
    for (name, _), column in values.items():
        base.executemany(f"INSERT INTO t (id, {name}) VALUES (?, ?)", [(f"{name}-{at}", value) for at, value in enumerate(column)])
    base.commit()
    for (name, _) in values:
        cells = [row for row in base.execute(f"SELECT id, {name} FROM t WHERE id LIKE '{name}-%'")]
        table.columns[name] = [value for _, value in cells]
        for key, value in cells:
            if value is None: want = NULL
            elif name == "c_bool": want = boolean(value == 1)
            elif isinstance(value, bytes): want = text(base64.b64encode(value).decode())
            elif isinstance(value, str): want = text(value)
            else: want = num(value) if isinstance(value, int) else floating(value)
            table.expected[key] = {"column": name, "want": want}


def make_parquet(folder, table):
    import numpy
    import pyarrow as pa
    import pyarrow.parquet as pq
    half = lambda value: numpy.float16(value)
    nested = pa.struct([("a", pa.int64()), ("b", pa.list_(pa.float32())), ("d", pa.decimal128(10, 2))])
    ns = [0, 1, 1000, -1000, 1767225600123456000, 1767225600123456789, 2**63 - 808]
    stamps = MICROS + table.some(table.micros)
    columns = {
        "c_bool": (pa.bool_(), [True, False, None], boolean),
        "c_i8": (pa.int8(), [-128, 127], num), "c_i16": (pa.int16(), [-2**15, 2**15 - 1], num),
        "c_i32": (pa.int32(), [-2**31, 2**31 - 1], num), "c_i64": (pa.int64(), INTS + table.some(table.int), num),
        "c_u8": (pa.uint8(), [0, 255], num), "c_u32": (pa.uint32(), [2**32 - 1], num),
        "c_u64": (pa.uint64(), [0, 2**63, 2**64 - 1], num),
        "c_half": (pa.float16(), [half(x) for x in (0.1, 3.14, 65504, 6e-8, float("nan"), float("inf"))], lambda x: shortest(float(x), "<e")),
        "c_single": (pa.float32(), [3.14, 0.1, 1.1, 3.4e38, 1e-45, float("-inf")] + [struct.unpack("<f", table.random.randbytes(4))[0] for _ in range(60)],
                     lambda x: shortest(x, "<f")),
        "c_double": (pa.float64(), FLOATS + [float("nan")] + table.some(table.float), floating),
        "c_dec": (pa.decimal128(38, 10), [Decimal(x).quantize(Decimal("1e-10")) for x in ("0", "1.1", "-12.5", "12345678901234567890.0123456789")], num),
        "c_dec4": (pa.decimal128(9, 2), [Decimal("1.10"), Decimal("-0.05")], num),
        "c_dec256": (pa.decimal256(60, 3), [Decimal("1234567890123456789012345678901234567890.125"), Decimal("-0.001")], num),
        "c_text": (pa.string(), TEXTS + table.some(table.text), text), "c_large": (pa.large_string(), TEXTS, text),
        "c_view": (pa.string_view(), TEXTS[:20], text),
        "c_dict": (pa.dictionary(pa.int32(), pa.string()), TEXTS + TEXTS, text),
        "c_bytes": (pa.binary(), [b"", b"\0\xff", b"abc"], lambda x: text(base64.b64encode(x).decode())),
        "c_fixed": (pa.binary(4), [b"\0\1\2\3"], lambda x: text(base64.b64encode(x).decode())),
        "c_uuid": (pa.uuid(), [bytes(range(16))], lambda x: text("00010203-0405-0607-0809-0a0b0c0d0e0f")),
        "c_json": (pa.json_(), ['{"a":1.10}', "nope", '"x"', "12.50"], lambda x: INVALID if x == "nope" else json_want(loads(x))),
        "c_date": (pa.date32(), [-719162, -719163, 0, 2932896, 2932897, 20455], day),
        "c_time_ms": (pa.time32("ms"), [0, 1, 86399999], lambda x: time(x * 10**6)),
        "c_time_us": (pa.time64("us"), [0, 1, 86399999999], lambda x: time(x * 10**3)),
        "c_time_ns": (pa.time64("ns"), [0, 1, 1000, 86399999999000], time),
        "c_ms": (pa.timestamp("ms"), [x // 1000 for x in stamps] + [2**62], lambda x: instant(x * 10**6, False)),
        "c_us": (pa.timestamp("us"), stamps + [2**62, LAST, FIRST - 1], lambda x: instant(x * 10**3, False)),
        "c_us_tz": (pa.timestamp("us", tz="Europe/Vienna"), stamps, lambda x: instant(x * 10**3, True)),
        "c_ns": (pa.timestamp("ns"), ns, lambda x: instant(x, False)),
        "c_ns_tz": (pa.timestamp("ns", tz="UTC"), ns, lambda x: instant(x, True)),
        "c_list": (pa.list_(pa.int64()), [[], [1, None, 2**63 - 1], None], lambda x: document(dumps(plain(x)))),
        "c_struct": (nested, [{"a": 1, "b": [0.1, None], "d": Decimal("1.10")}, {"a": None, "b": None, "d": None}],
                     lambda x: document(dumps({"a": plain(x["a"]), "b": x["b"] and [None if y is None else Digits(Decimal(shortest(y, "<f")["float"])) for y in x["b"]], "d": x["d"]}))),
        "c_map": (pa.map_(pa.string(), pa.int32()), [[("k", 1), ("", None)], []], lambda x: document(dumps(plain(dict(x))))),
        "c_null": (pa.null(), [None, None], text),
    }
    for name, (_, values, want) in columns.items():
        table.add(name, values, want)
    rows = table.rows()
    arrays = {"id": pa.array([key for key, _, _ in rows])}
    for name, (kind, _, _) in columns.items():
        cells = [value if column == name else None for _, column, value in rows]
        is_typed = isinstance(kind, pa.BaseExtensionType)
        storage = kind.storage_type if is_typed else kind
        is_count = pa.types.is_temporal(kind)
        width = pa.int32() if kind in (pa.date32(), pa.time32("ms")) else pa.int64()
        array = pa.array(cells, width).cast(kind) if is_count else pa.array(cells, storage)
        arrays[name] = kind.wrap_array(array) if is_typed else array
    pq.write_table(pa.table(arrays), folder / "a.parquet", row_group_size=97, compression="zstd")
    int96 = pa.table({"id": ["i96-0", "i96-1", "i96-2"], "c_i96": pa.array([1767225600123456000, None, 1767225600123456789], pa.timestamp("ns"))})
    pq.write_table(int96, folder / "b.parquet", use_deprecated_int96_timestamps=True)
    back = pq.read_table(folder / "b.parquet").column("c_i96").cast(pa.int64()).to_pylist()
    for at, value in enumerate(back):
        table.expected[f"i96-{at}"] = {"column": "c_i96", "want": NULL if value is None else instant(value, False)}
    table.columns["c_i96"] = back
    duck(folder, table)
    # What was written is what is read: else the other half of this test would compare with an error of its own.
    read = pq.read_table(folder / "a.parquet")
    assert read.num_rows == len(rows) and read.column("c_i64").to_pylist() == arrays["c_i64"].to_pylist()


def duck(folder, table):
    import duckdb
    values = ["INTERVAL '1 year 2 months 3 days 04:05:06.5'", "INTERVAL '0 day'", "INTERVAL '90 minutes'", "NULL::INTERVAL"]
    base = duckdb.connect()
    union = " UNION ALL ".join(
        f"SELECT 'd-{at}' AS id, {value} AS c_span, 'b'::ENUM('a', 'b') AS c_enum, 123456789012345678901::DECIMAL(38, 0) AS c_huge"
        for at, value in enumerate(values))
    base.execute(f"COPY ({union}) TO '{folder}/c.parquet' (FORMAT parquet)")
    for key, span, enum, huge in base.execute(f"SELECT id, c_span::VARCHAR, c_enum::VARCHAR, c_huge FROM '{folder}/c.parquet'").fetchall():
        spans = {"1 year 2 months 3 days 04:05:06.5": "P1Y2M3DT4H5M6.5S", "00:00:00": "PT0S", "01:30:00": "PT1H30M"}
        table.expected[key] = {"column": "c_span", "want": NULL if span is None else text(spans[span])}
        table.expected[key]["beside"] = {"c_enum": text(enum), "c_huge": num(huge)}
    table.columns |= {"c_span": values, "c_enum": values, "c_huge": values}


def fraction(micros):
    """The part of a second, as the contract writes it."""
    if micros % 10**6 == 0: return ""
    return f".{micros % 10**6 // 1000:03d}" if micros % 1000 == 0 else f".{micros % 10**6:06d}"


def moment(micros):
    whole = EPOCH + dt.timedelta(seconds=micros // 10**6)
    return whole.isoformat() + fraction(micros)


def same(one, other):
    """True if two JSON values are alike, down to the digits of their numbers."""
    if type(one) is not type(other): return False
    if isinstance(one, list): return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict): return list(one) == list(other) and all(map(same, one.values(), other.values()))
    return one == other


def matches(want, got):
    """True if the JSON value `got` is what must arrive."""
    (kind, value), = want.items()
    if kind == "null": return got is None
    if kind == "bool": return got is value
    if kind == "num": return isinstance(got, Digits) and got == value
    if kind == "float":
        # The shortest digits: no zeros at the end of a fraction, and none of a whole number.
        return isinstance(got, Digits) and Decimal(got) == Decimal(value) and not re.search(r"\.(\d*0)?(e|$)", got)
    if kind == "json": return same(got, loads(value))
    if kind == "list": return isinstance(got, list) and len(got) == len(value) and all(map(matches, value, got))
    if isinstance(got, Digits) or not isinstance(got, str): return False
    if kind == "text": return got == value
    if kind == "day": return got == (dt.date(1970, 1, 1) + dt.timedelta(days=value)).isoformat()
    if kind == "time": return "1970-01-01T" + got == moment(value)
    return got == moment(value) + ("Z" if kind == "zoned" else "")


def compare(folder):
    expected = json.loads((folder / "expected.json").read_text())
    raw = [json.loads(line) for line in (folder / "got.ndjson").read_text().split("\n") if line]
    got = {row["id"]: row["fields"] for row in raw}
    invalid = set(json.loads((folder / "invalid.json").read_text()))
    wrong = [f"{key} twice" for key in got if sum(row["id"] == key for row in raw) > 1] if len(got) != len(raw) else []
    wrong += [f"{key} was not asked for" for key in set(got) - set(expected["rows"])]
    count = 0
    for key, row in expected["rows"].items():
        for column, want in ({row["column"]: row["want"]} | row.get("beside", {})).items():
            count += 1
            if want == INVALID:
                if key not in invalid or key in got: wrong.append(f"{key} must be invalid, but {got.get(key, {}).get(column, 'is missing')[:80]}")
            elif key not in got: wrong.append(f"{key} must be {str(want)[:80]}, but {'is invalid' if key in invalid else 'is missing'}")
            elif not matches(want, loads(got[key][column])): wrong.append(f"{key} must be {str(want)[:80]}, but is {got[key][column][:80]}")
    print(f"{expected['types']} types, {count} values, {len(wrong)} differences")
    print("\n".join(wrong[:40]))
    return 1 if wrong else 0


def main(arguments):
    if arguments[0] == "compare":
        return compare(pathlib.Path(arguments[1]))
    kind, folder, seed = arguments[1], pathlib.Path(arguments[2]), int(arguments[3])
    table = Table(seed)
    make = {"csv": make_csv, "ndjson": ndjson, "sqlite": make_sqlite, "parquet": make_parquet}.get(kind)
    if make is None:
        # Beside the sources nothing is left.
        sys.dont_write_bytecode = True
        import postgres
        postgres.make(table, arguments[4])
    else:
        make(folder, table)
    names = sorted({row["column"] for row in table.expected.values()} | set(table.columns))
    expected = {"types": len(table.columns), "columns": names, "rows": table.expected}
    (folder / "expected.json").write_text(json.dumps(expected))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
