"""PostgreSQL's half of the reference: a table with a column of each type, and what must arrive of its values.

What a value is comes from the server itself: its text in the form that clients without knowledge of its type get, under the
settings that docs/types.md names. The server's text of an array's elements is that of its type as a column.
"""

import base64
import datetime as dt

from reference import (DAYS, DECIMALS, EPOCH, FAR, FLOATS, INTS, INVALID, NULL, TEXTS, boolean, document, dumps, has_half, has_twins,
                       json_want, loads, num, text)

SETTINGS = "SET timezone = 'UTC'; SET datestyle = 'ISO'; SET intervalstyle = 'iso_8601'; SET extra_float_digits = 1; SET bytea_output = 'hex'"
TYPES = """
DROP TABLE IF EXISTS diff;
CREATE TYPE mood AS ENUM ('sad', 'ha"ppy', 'o''k', 'Zoë, {x}', ' ', 'null', 'back\\slash', '');
CREATE TYPE pair AS (a text, "b c" numeric(9,2), d bytea, e timestamptz, f int[]);
CREATE TYPE outer_pair AS (p pair, m mood);
CREATE TYPE floatrange AS RANGE (subtype = float8);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE DOMAIN price AS numeric(12,2);
CREATE DOMAIN nested_price AS price CHECK (VALUE < 1000);
CREATE DOMAIN label AS text;
CREATE DOMAIN numbers AS int[];
"""
NASTY = [value for value in TEXTS if "\0" not in value]
STAMPS = ["0001-01-01 00:00:00", "2026-02-28 12:00:00.000001", "9999-12-31 23:59:59.999999", "1969-12-31 23:59:59.5", "2026-03-29 02:30:00+05:45",
          "infinity", "-infinity", "0044-03-15 BC", "270000-01-01"]


def instant(zone):
    def want(said):
        try:
            at = dt.datetime.fromisoformat(said.removesuffix("+00"))
        except ValueError:  # infinity, BC, and years of five digits
            return INVALID
        return {"zoned" if zone else "local": (at - EPOCH) // dt.timedelta(microseconds=1)}
    return want


def day(said):
    try:
        return {"day": (dt.date.fromisoformat(said) - EPOCH.date()).days}
    except ValueError:
        return INVALID


def time(said):
    return INVALID if said.startswith("24:") else {"time": (dt.datetime.fromisoformat("1970-01-01 " + said) - EPOCH) // dt.timedelta(microseconds=1)}


def decimal(said): return INVALID if said.lstrip("-") in ("NaN", "Infinity") else num(said)
def floating(said): return INVALID if said.lstrip("-") in ("NaN", "Infinity") else {"float": said}
def within_a_day(said): return INVALID if said.startswith("24:") else text(said)
def of_json(said): return INVALID if has_twins(said) else json_want(loads(said))
def in_json(said): return INVALID if has_twins(said) or has_half(loads(said)) else document(said)
def padded(said): return text(said.rstrip(" "))
def binary(said): return text(base64.b64encode(bytes.fromhex(said[2:])).decode())


class Type:
    """A type: how it is declared, nasty values as one writes them, and what the server's text of one must become."""

    def __init__(self, name, values, want=text, ask="{}", delimiter=",", has_arrays=True, within=None):
        self.name, self.values, self.want, self.ask = name, list(values), want, ask
        self.within = within or want
        self.delimiter, self.has_arrays = delimiter, has_arrays


def types(table, extensions):
    """All types, and some values of each at random."""
    some, chance = table.some, table.random
    bits = lambda: "".join(chance.choice("01") for _ in range(chance.randrange(1, 40)))
    span = lambda: f"{chance.randrange(-99, 99)} years {chance.randrange(-40, 40)} mons {chance.randrange(-99, 99)} days {chance.randrange(-10**12, 10**12)} microseconds"
    ip = lambda: ".".join(str(chance.randrange(256)) for _ in range(4)) + chance.choice(["", f"/{chance.randrange(33)}"])
    stamp = lambda: str(EPOCH + dt.timedelta(microseconds=table.micros()))
    ints = lambda: "[{},{}{}".format(*sorted(chance.randrange(-99, 99) for _ in range(2)), chance.choice("])"))
    words = lambda: table.text().replace("\0", "")
    found = [
        Type("bool", ["true", "false"], lambda said: boolean(said == "t")),
        Type("int2", [-2**15, 2**15 - 1, 0], num), Type("int4", [-2**31, 2**31 - 1, 7], num),
        Type("int8", INTS + some(table.int), num), Type("oid", [0, 2**32 - 1], num),
        Type("numeric", DECIMALS + ["NaN", "Infinity", "-Infinity", "1e200", "-1e-200", "7.00", "10000", "0.0001"] + some(table.decimal), decimal),
        Type("numeric(12,2)", ["7", "-0.05", "1234567890.12", "NaN"], decimal),
        Type("numeric(5,-2)", ["12345", "49", "-150"], decimal), Type("numeric(3,5)", ["0.00123"], decimal),
        Type("money", ["0", "-1234.56", "92233720368547758.07", "0.1"], num, "{}::numeric"),
        Type("float4", ["3.14", "0.1", "1e-45", "3.4028235e38", "16777216", "NaN", "-Infinity", "-0"], floating),
        Type("float8", [repr(x) for x in FLOATS + some(table.float, 60) if x == x and abs(x) != float("inf")] + ["NaN", "Infinity"], floating),
        Type("text", NASTY + some(words)), Type("varchar", NASTY[:20]), Type("varchar(3)", ["", "abc", "株式会"]),
        Type("char(5)", ["", "ab", "ab   ", " a", "株式"], padded), Type("name", [x for x in NASTY if len(x) < 60]),
        Type('"char"', ["x", "", " ", '"', "\\"]),
        Type("uuid", ["A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "{00000000000000000000000000000000}"]),
        Type("bytea", ["\\x00ff", "\\x", "\\x" + chance.randbytes(40).hex()], binary),
        Type("date", DAYS + ["infinity", "-infinity", "0044-03-15 BC", "5874897-12-31", "4714-11-24 BC"], day),
        Type("time", ["00:00:00", "23:59:59.999999", "12:00:00.5", "24:00:00"], time),
        Type("timetz", ["00:00:00+02", "23:59:59.999999-11:30", "12:00:00.5+15:59", "24:00:00+00"], within_a_day),
        Type("timestamp", [x for x in STAMPS if "+" not in x] + some(stamp), instant(False)), Type("timestamptz", STAMPS + some(stamp), instant(True)),
        Type("interval", ["1 year 2 days 3 hours", "-1 day", "0", "1 mon -1 day", "-0.000001 s", "178000000 years", "1 day -00:00:01.5", *some(span)]),
        Type("json", ['{"a": 1.10}', '"\\ud83d"', '{"a":\n1}', '{"a":1,"a":2}', '{"b":[{"a":1,"\\u0061":2}]}', " null ", "-0.00", "1E5", '"\\u0041"', *FAR, f"[{FAR[-1]}]"]
             + [dumps(x) for x in some(table.nested)], of_json, within=in_json),
        Type("jsonb", ['{"a": 1.10, "b": [null, "é"]}', "12.50", '"x"', "null", "true", "1e400", '{"a":1,"a":2}', "[]"] + [dumps(x) for x in some(table.nested)],
             lambda said: json_want(loads(said)), within=in_json),
        Type("jsonpath", ["$.a", 'strict $."a b"[*] ? (@.x > 1.5)']),
        Type("mood", ["sad", 'ha"ppy', "o'k", "Zoë, {x}", " ", "null", "back\\slash", ""]),
        Type("positive", ["1", "2147483647"], num), Type("price", ["7", "-0.05"], decimal), Type("nested_price", ["7", "-0.05"], decimal),
        Type("label", NASTY[:20]),
        Type("inet", ["10.0.0.1", "10.0.0.1/8", "10.0.0.1/32", "::1", "2001:db8::1/64", "::ffff:1.2.3.4", *some(ip)]),
        Type("cidr", ["10.0.0.0/8", "10.0.0.1/32", "2001:db8::/32", "0.0.0.0/0"]), Type("macaddr", ["08-00-2B-01-02-03"]),
        Type("macaddr8", ["08:00:2b:01:02:03:04:05", "08002b:010203"]),
        Type("bit(3)", ["101", "000"]), Type("varbit", ["", *some(bits)]), Type("xml", ["<a>1</a>", "<a b='&amp;\"'>\n ü</a>", "text"]),
        Type("tsvector", ["a fat cat", "'a b':1A 'it''s':2,3", "'back\\\\slash'"]), Type("tsquery", ["fat & (cat | 'a b':*A) & !rat"]),
        Type("pg_lsn", ["0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"]), Type("regclass", ["pg_class", '"pg_catalog"."pg_type"']), Type("regtype", ["int4[]", "pair"]),
        Type("xid", ["4294967295"]), Type("pg_snapshot", ["10:20:10,14"]),
        Type("point", ["(1,2.5)", "(-0.1,1e300)"]), Type("line", ["{1,2,3}"]), Type("lseg", ["[(1,2),(3,4)]"]), Type("box", ["(3,4),(1,2)"], delimiter=";"),
        Type("path", ["[(1,2),(3,4)]", "((1,2),(3,4))"]), Type("polygon", ["((1,2),(3,4),(5,0.1))"]), Type("circle", ["<(1,2),3.5>"]),
        Type("int4range", ["[1,5)", "(,5]", "empty", "(,)", *some(ints)]), Type("int8range", ["[1,9223372036854775807)"]),
        Type("numrange", ["[1.10,2.00]", "(,NaN)"]), Type("floatrange", ["[0.1,1e300)"]), Type("tsrange", ['["2026-01-01 00:00:00.5",infinity)']),
        Type("tstzrange", ['["2026-01-01 00:00:00+02","2026-01-02 00:00:00+02")']), Type("daterange", ["[2026-01-01,2026-01-31]", "[0044-03-15 BC,)"]),
        # As `to_json` writes them.
        *[Type(name, values, lambda said: document(said), "to_json({})::text", has_arrays=False) for name, values in COMPOSITES.items()],
    ]
    if "hstore" in extensions:
        found += [Type("hstore", ['"a"=>"1", "b c"=>NULL, "q\\""=>"é"', ""], has_arrays=False),
                  Type("hstore[]", ['{"\\"a\\"=>\\"1\\""}', "{NULL}"], lambda said: document(said), "to_json({})::text", has_arrays=False)]
    if "citext" in extensions: found.append(Type("citext", ["ABC", "ß"]))
    if "ltree" in extensions: found.append(Type("ltree", ["Top.Science", ""]))
    if "cube" in extensions: found.append(Type("cube", ["(1,2),(3,4.5)"]))
    return found


ROW = '("say ""hi"", a\\\\b\n",7,"\\\\x00ff","2026-01-01 00:00:00+02","{1,NULL}")'
COMPOSITES = {
    "pair": [ROW, "(,,,,)", "(é,-0.05,,,{})"],
    "outer_pair": ['("' + ROW.replace("\\", "\\\\").replace('"', '""') + '","o\'k")', "(,)"],
    "pair[]": ['{"(a,1,,,)",NULL}', "{}", '{{"(a,1,,,)"},{"(b,2.5,,,)"}}'],
}


class Array:
    """Arrays of a type, nested and with nulls; the server's text of each element must become what it does in a column."""

    def __init__(self, of, table):
        self.of, self.name = of, f"{of.name}[]"
        first, last = str(of.values[0]), str(of.values[-1])
        sound = [str(value) for value in of.values if len(str(value)) < 1000]
        lists = [[], [None], [first, None, last], [sound[at % len(sound)] for at in range(2)], sound[:40]]
        lists += [[[first], [None]], [[[first, last]], [[last, None]]]]
        self.values = [self.literal(value) for value in lists] + [None]
        self.values += [f"[2:3]={self.literal([first, None])}", f"[-1:0][5:5]={self.literal([[last], [first]])}"]

    def literal(self, value):
        if value is None: return "NULL"
        if isinstance(value, list): return "{" + self.of.delimiter.join(map(self.literal, value)) + "}"
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    def want(self, elements, sizes):
        wants = [NULL if said is None else self.of.within(said) for said in elements]
        if INVALID in wants: return INVALID
        for size in reversed(sizes[1:]):
            wants = [{"list": wants[at:at + size]} for at in range(0, len(wants), size)]
        return {"list": wants}


def rows(base, sql):
    """What the server says, as text, whatever the types."""
    result = base.pgconn.exec_(sql.encode())
    assert result.status == 2, f"{sql}: {result.error_message.decode()}"
    cell = lambda row, column: None if (value := result.get_value(row, column)) is None else value.decode()
    return [[cell(row, column) for column in range(result.nfields)] for row in range(result.ntuples)]


def make(table, url):
    import psycopg
    with psycopg.connect(url, autocommit=True) as base:
        base.execute(SETTINGS)
        base.execute(TYPES)
        installed = [name for name, in base.execute("SELECT name FROM pg_available_extensions WHERE name IN ('hstore', 'citext', 'ltree', 'cube')").fetchall()]
        for name in installed:
            base.execute(f"CREATE EXTENSION IF NOT EXISTS {name}")
        scalars = types(table, installed)
        # One that is an array itself has arrays of its own.
        arrays = [Array(of, table) for of in scalars if of.has_arrays]
        domain = Array(Type("int4", ["1", "2"], num), table)
        domain.name = "numbers"
        columns = {f"c{at}": of for at, of in enumerate([*scalars, *arrays, domain])}
        base.execute("CREATE TABLE diff (id text, " + ", ".join(f"{column} {of.name}" for column, of in columns.items()) + ")")
        for column, of in columns.items():
            table.columns[column] = of.values + ([] if None in of.values else [None])
        with base.cursor() as cursor, base.transaction():
            for key, column, value in table.rows():
                cursor.execute(f"INSERT INTO diff (id, {column}) VALUES (%s, %s)", (key, None if value is None else str(value)))
        for column, of in columns.items():
            for key, want in (elements if isinstance(of, Array) else scalar)(base, column, of):
                table.expected[key] = {"column": column, "want": want}


def scalar(base, column, of):
    for key, said in rows(base, f"SELECT id, {of.ask.format(column)} FROM diff WHERE id LIKE '{column}-%'"):
        yield key, NULL if said is None else of.want(said)


def elements(base, column, of):
    found = {}
    ask = of.of.ask.format("e")
    for key, said in rows(base, f"SELECT id, {ask} FROM diff, unnest({column}) WITH ORDINALITY AS u(e, n) WHERE id LIKE '{column}-%' ORDER BY id, n"):
        found.setdefault(key, []).append(said)
    for key, is_null, *sizes in rows(base, f"SELECT id, {column} IS NULL, array_length({column}, 1), array_length({column}, 2), array_length({column}, 3) "
                                           f"FROM diff WHERE id LIKE '{column}-%'"):
        yield key, NULL if is_null == "t" else of.want(found.get(key, []), [int(size) for size in sizes if size])
