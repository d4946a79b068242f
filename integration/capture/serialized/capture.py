"""Records what kombu's serializers and compressions make of values, and what PyYAML reads. Needs no Redis.

    python capture.py OUT

Each file has cases of a name, the data in base64 and the value as kombu's JSON writes it once tuples and sets are lists and keys are
texts; null where there is no such JSON, or where Python refuses the data.
"""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import fractions
import json
import os
import pickle
import sys
import uuid
from zoneinfo import ZoneInfo

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import celery
import kombu.compression
import kombu.serialization
import yaml
from celery import chain, chord, group, signature
from celery.exceptions import MaxRetriesExceededError, Retry, TaskRevokedError
from kombu.utils import json as kombu_json

from fixturelib import b64, package_versions, write_case

VERSIONS = package_versions("kombu", "celery", "msgpack", "PyYAML", "brotli", "backports.zstd")


def plain(value):
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, bytearray):
        return bytes(value)
    if isinstance(value, dict):
        out = {}
        for key, item in value.items():
            if key is None or isinstance(key, (bool, int, float)):
                key = json.dumps(key)
            if not isinstance(key, str):
                raise TypeError("key of type " + type(key).__name__)
            out[key] = plain(item)
        return out
    return value


def text_of(value):
    try:
        return kombu_json.dumps(plain(value))
    except TypeError:
        return None


SHARED = [1, {"a": "shared"}]
CYCLE: list = [1]
CYCLE.append(CYCLE)

PICKLED = {
    "none": None,
    "bools": [True, False],
    "ints": [0, 1, 255, 256, 65535, 65536, -1, -128, -(2**31), 2**31, -(2**63), 2**63, 10**30, -(10**30), 2**2040],
    "floats": [0.0, -0.0, 1.5, 1e300, float("inf"), float("-inf"), float("nan")],
    "texts": ["", "a", "h\u00e9llo \u20ac \U0001f600", "\ud800", "back\\slash \\u0041 \n\r\x00\x1a", "x" * 300],
    "bytes": [b"", b"ascii", b"\xff\x00", b"y" * 300],
    "bytearray": [bytearray(b""), bytearray(b"ab"), bytearray(b"\xff")],
    "lists": [[], [1], [[1, [2, [3]]]]],
    "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
    "dicts": [{}, {"a": 1}, {"a": {"b": None}}],
    "keys": {1: "int", 1.5: "float", None: "none", True: "replaces 1", 10**20: "big", "s": "text", -0.0: "zero"},  # noqa: F601
    "tuple_keys": {(1, 2): "x"},
    "bytes_keys": {b"a": "x"},
    "sets": [set(), {1}, frozenset(), frozenset([2])],
    "shared": [SHARED, SHARED, {"again": SHARED}],
    "cycle": CYCLE,
    "dates": [dt.date(1, 1, 1), dt.date(9999, 12, 31)],
    "times": [dt.time(0, 0), dt.time(23, 59, 59, 999999), dt.time(1, 2, 3, tzinfo=dt.timezone.utc), dt.time(1, 2, fold=1)],
    "datetimes": [
        dt.datetime(2024, 2, 29, 12, 30, 45),
        dt.datetime(2024, 2, 29, 12, 30, 45, 123456),
        dt.datetime(2024, 10, 27, 2, 30, fold=1),
        dt.datetime(2024, 2, 29, 12, 30, tzinfo=dt.timezone.utc),
        dt.datetime(2024, 2, 29, 12, 30, tzinfo=dt.timezone(dt.timedelta(hours=-5, minutes=-30))),
        dt.datetime(2024, 2, 29, 12, 30, tzinfo=dt.timezone(dt.timedelta(hours=2), "CEST")),
        dt.datetime(2024, 2, 29, 12, 30, tzinfo=ZoneInfo("UTC")),
    ],
    "zone": dt.datetime(2024, 2, 29, 12, 30, tzinfo=ZoneInfo("Europe/Paris")),
    "timedelta": dt.timedelta(days=1, seconds=2),
    "timezone": dt.timezone.utc,
    "decimals": [decimal.Decimal("1.10"), decimal.Decimal("-1E+5"), decimal.Decimal("NaN")],
    "uuids": [
        uuid.UUID("12345678-1234-5678-1234-567812345678"),
        uuid.UUID(int=0),
        uuid.UUID(int=2**128 - 1),
        uuid.uuid5(uuid.NAMESPACE_URL, "x"),
    ],
    "ordered": collections.OrderedDict([("b", 1), ("a", 2)]),
    "defaultdict": collections.defaultdict(list, {"a": [1]}),
    "defaultdict_none": collections.defaultdict(None, {"a": 1}),
    "counter": collections.Counter("aab"),
    "complex": 1j,
    "fraction": fractions.Fraction(1, 3),
    "function": os.system,
    "class": ValueError,
    "exception": ValueError("boom"),
    "signature": signature("demo.add", args=(1, 2), kwargs={"k": dt.date(2024, 1, 1)}),
    "chain": chain(signature("demo.add", args=(1, 2)), signature("demo.mul", args=(3,))),
    "group": group(signature("demo.add", args=(i, i)) for i in range(3)),
    "chord": chord([signature("demo.add", args=(1, 2))], signature("demo.xsum")),
    "long_list": list(range(1100)),
    "long_dict": {str(i): i for i in range(1010)},
    "typed_keys": {"__type__": "datetime", "__value__": "2024-01-01"},
}

# Of every serializer: what all of them have.
COMMON = {
    "args": [2, 3, "h\u00e9llo", None, True, 1.5, -1, 2**40],
    "kwargs": {"x": 1, "nested": {"list": [1, [2]], "empty": {}}, "text": "x" * 200},
    "body": [[2, 3], {"k": "v"}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}],
    "bytes": b"\xff\xfe\x00",
    "nan": float("nan"),
}

YAML = [
    "yes", "No", "on", "OFF", "y", "true", "True", "TRUE", "tRue", "null", "~", "Null", "''", "0o7", "010", "0", "08", "0x1F", "0b101",
    "-0x1f", "1_000", "1:30", "190:20:30", "1:60", "-1:30.5", "1e3", "1.5e3", "1.5e+3", ".5", "+.5", "1.", "._", ".inf", "-.Inf",
    "+.INF", ".nan", ".NaN", "nan", "2001-12-14", "2001-1-1", "2001-12-14t21:59:43.10-05:00", "2001-12-14 21:59:43.10 -5",
    "2001-12-15 2:59:43.10", "2001-12-14T21:59:43Z", "2001-12-14 21:59:43 +05:30", "2001-13-14", "2001-12-14 25:00:00",
    "2001-12-14 21:59:43 +25:00", "!!binary aGVsbG8=", "!!binary |\n  aGVs\n  bG8=\n", "!!binary aGVsbG8", "!!set {a, a}",
    "!!omap [a: 1, b: 2]", "!!pairs [a: 1, a: 2]", "!!omap {a: 1}", "!!str 1", "!!int '1'", "!!int x", "!!float 1", "!!bool 1",
    "!!null x", "!!timestamp x", "!!seq {}", "!!map []", "!!python/object/apply:os.system ['true']", "!!python/tuple [1]",
    "!!python/name:os.system", "!x y", "! 1", "!<tag:yaml.org,2002:int> 1", "a: 1\na: 2\n", "{1: a, '1': b, true: c}", "{[1]: a}",
    "{? {a: b} : c}", "{2001-12-14: a}", "{!!binary aGk=: a}", "{null: a, 1.5: b}", "base: &b {a: 1, b: 2}\nx: {<<: *b, b: 3}\n",
    "x: {<<: [{a: 1}, {a: 2, b: 2}], c: 3}", "x: {<<: 1}", "- <<", "=", "{=: 1}", "!!str {=: x}", "&a [1, *a]",
    "- &a {k: v}\n- *a\n- *a\n", "- &a 1\n- &a 2\n", "*a", "a: b: c", "a:\n  b\n c", "[a, b", "{a: b", "a: [", "\"a", "'a", "@", "`",
    "---\na\n---\nb\n", "---\na\n...\n", "--- |\n  a\n", "...\n", "# comment", "%YAML 1.1\n---\na", "%YAML 2.0\n---\na",
    "%TAG !e! tag:x,2000:\n--- !e!y z", "\ufeffa: 1", "a\tb", "- a\n-\tb", "\ta: 1", "a: |\n  x\n   y\n\n  z\n",
    "a: >\n  x\n  y\n\n  z\n   w\n  v\n", "a: |-\n  x\n\n", "a: |+\n  x\n\n", "a: |2\n   x\n", "a: >1\n x\n", "a: |0\n x",
    "\"\\x41\\u20ac\\U0001f600\\N\\_\\L\\P\\e\\0\\/\"", "\"a\\\n  b\"", "\"a\n\n  b\"", "'a''b'", "'a\n  b'", "\"\\q\"", "\"\\ud800\"",
    "a\n b\n\n c", "[a b, c: d, ? e : f, g:h]", "{a, b: , c: d}", "{a:1}", "[a:1]", "{\"a\":1}", "http://x/y#z", "a #b", "a#b",
    "? a\n: b\n? c\n", "? - a\n: b", "- - - a\n  - b\n- c\n", "a:\n- 1\n- 2\nb: 3\n", "a: !!str\nb: &x\nc: *x\n", "-", "- ", "-a",
    "?a", ":a", "a:", ": a",
]  # fmt: skip


def attempt(fun, *args):
    try:
        return fun(*args)
    except Exception as exc:
        return exc


def main(out: str) -> None:
    cases = []
    for protocol in range(6):
        for name, value in PICKLED.items():
            cases.append(
                {
                    "name": f"{name}_{protocol}",
                    "data": b64(pickle.dumps(value, protocol)),
                    "text": None if name == "cycle" else text_of(value),
                }
            )
    for name, exc in {
        "value_error": ValueError("boom", 1),
        "retry": Retry("again", ValueError("boom"), dt.datetime(2024, 1, 1)),
        "max_retries": MaxRetriesExceededError("no more", task_args=[1]),
        "revoked": TaskRevokedError("terminated"),
        "attributes": with_attribute(KeyError("k")),
        "opaque_argument": RuntimeError(os.system, "plain", ValueError("inner")),
    }.items():
        for protocol in range(6):
            meta = {"status": "FAILURE", "result": exc, "traceback": None, "children": [], "date_done": None, "task_id": "i"}
            cases.append({"name": f"failure_{name}_{protocol}", "data": b64(pickle.dumps(meta, protocol)), "text": None})
    write_case(out, "pickles", VERSIONS, {}, cases=cases)

    cases = []
    for document in YAML:
        value = attempt(yaml.safe_load, document.encode())
        text = None if isinstance(value, Exception) or document == "&a [1, *a]" else text_of(value)
        cases.append({"name": document, "data": b64(document), "text": text})
    for encoding in ("utf-16-le", "utf-16-be"):
        cases.append(
            {"name": encoding, "data": b64("\ufeffa: h\u00e9 \U0001f600".encode(encoding)), "text": text_of({"a": "h\u00e9 \U0001f600"})}
        )
    write_case(out, "yaml", VERSIONS, {}, cases=cases)

    cases = []
    for serializer in ("json", "msgpack", "yaml", "pickle"):
        for name, value in COMMON.items():
            content_type, encoding, data = kombu.serialization.dumps(value, serializer=serializer)
            for method in ("", "zlib", "bzip2", "lzma", "brotli", "zstd"):
                mime, packed = "", data.encode() if isinstance(data, str) else data
                if method:
                    packed, mime = kombu.compression.compress(packed, method)
                cases.append({
                    "name": f"{name}_{serializer}_{method}", "content_type": content_type, "content_encoding": encoding,
                    "compression": mime, "data": b64(packed), "text": text_of(value),
                })  # fmt: skip
    write_case(out, "content", VERSIONS, {}, cases=cases)


def with_attribute(exc):
    exc.note = {"seen": object}
    return exc


if __name__ == "__main__":
    print("celery", celery.__version__)
    main(sys.argv[1])
