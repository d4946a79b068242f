"""Records the channel layers of the real channels_redis.

    python capture.py <redis port> <output folder>

Flushes the databases 0 to 4.
"""

import asyncio
import hashlib
import json
import os
import re
import socket
import sys
import threading
import time

from django.conf import settings

settings.configure()

import msgpack  # noqa: E402
import redis  # noqa: E402
from channels.layers import BaseChannelLayer  # noqa: E402
from channels_redis import utils as cr_utils  # noqa: E402
from channels_redis.core import RedisChannelLayer  # noqa: E402

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from fixturelib import b64, dump_redis, package_versions, write_case  # noqa: E402

PORT, OUT = int(sys.argv[1]), sys.argv[2]
DB0 = 0
VERSIONS = package_versions("channels", "channels_redis", "redis", "msgpack", "cryptography", "django")
KEY1 = "first key, for encryption"
KEY2 = "second key, rotated out"
GROUP = hashlib.sha256(b"-broadcast").hexdigest()
WS = {
    "type": "ws_message",
    "message": json.dumps(
        {"signal": "demo.é", "opts": {"a": 1, "b": None, "c": [True, 1.5]}, "signal_id": "0f6a6a3e-9d54-4d51-8a51-0d7a9a2b1c11"}
    ),
}


def conns(n):
    return [redis.Redis(port=PORT, db=DB0 + i) for i in range(n)]


def urls(n):
    return ["redis://127.0.0.1:%d/%d" % (PORT, DB0 + i) for i in range(n)]


def shown_hosts(n):
    return ["redis://127.0.0.1:<port>/<first db + %d>" % i for i in range(n)]


def flush():
    for c in conns(5):
        c.flushdb()


def dump(n):
    rows = []
    for i, c in enumerate(conns(n)):
        rows += dump_redis(c, shard=i)
    return rows


def shown_config(n, **kw):
    return dict({"hosts": shown_hosts(n), "shards": n}, **kw)


async def core_messages():
    for fmt in ("msgpack", "json"):
        for enc_name, enc in (("plain", None), ("encrypted", [KEY1]), ("encrypted_rotated", [KEY1, KEY2])):
            for n in (1, 3):
                kw = {"serializer_format": fmt}
                if enc:
                    kw["symmetric_encryption_keys"] = enc
                tag = "%s_%s_shards%d" % (fmt, enc_name, n)
                a = RedisChannelLayer(hosts=urls(n), **kw)
                b = RedisChannelLayer(hosts=urls(n), **kw)
                names = {
                    "a1": await a.new_channel(),
                    "a2": await a.new_channel(),
                    "b1": await b.new_channel(),
                }
                # 1. to one specific channel
                flush()
                await a.send(names["b1"], {"type": "direct.msg", "n": 1})
                write_case(
                    OUT,
                    "core_send_specific_" + tag,
                    VERSIONS,
                    shown_config(n, **kw),
                    dump(n),
                    captured_at=time.time(),
                    input={"send_to": names["b1"]},
                    expect={"__asgi_channel__": names["b1"], "message": {"type": "direct.msg", "n": 1}},
                )
                # 2. to a general channel (what WEBSOCKET_WORKERS="channels" does)
                flush()
                await a.send("celery", {"type": "process.signal", "args": ["demo", None, {}, False, [], True, "celery"]})
                write_case(
                    OUT,
                    "core_send_general_" + tag,
                    VERSIONS,
                    shown_config(n, **kw),
                    dump(n),
                    captured_at=time.time(),
                    input={"send_to": "celery"},
                    expect={"message": {"type": "process.signal", "args": ["demo", None, {}, False, [], True, "celery"]}},
                )
                # 3. to a group of two members in one process and one in another, and
                #    one general channel
                flush()
                for c in names.values():
                    await a.group_add(GROUP, c)
                await a.group_add(GROUP, "general-member")
                groups_only = dump(n)
                await a.group_send(GROUP, WS)
                write_case(
                    OUT,
                    "core_group_send_" + tag,
                    VERSIONS,
                    shown_config(n, **kw),
                    dump(n),
                    captured_at=time.time(),
                    input={"group": GROUP, "members": list(names.values()) + ["general-member"]},
                    expect={
                        "message": WS,
                        "lists": {
                            names["a1"].split("!")[0] + "!": sorted([names["a1"], names["a2"]]),
                            names["b1"].split("!")[0] + "!": [names["b1"]],
                            "general-member": ["general-member"],
                        },
                    },
                )
                if fmt == "msgpack" and enc is None:
                    write_case(
                        OUT,
                        "core_group_members_shards%d" % n,
                        VERSIONS,
                        shown_config(n),
                        groups_only,
                        captured_at=time.time(),
                        input={"group": GROUP, "members": list(names.values()) + ["general-member"]},
                    )
                # 4. between BZPOPMIN and the clean-up: the backup key
                if n == 1:
                    flush()
                    await a.send(names["a1"], {"type": "direct.msg", "n": 1})
                    await a.send(names["a1"], {"type": "direct.msg", "n": 2})
                    key = "asgi" + names["a1"].split("!")[0] + "!"
                    await a._brpop_with_clean(0, key, timeout=1)
                    write_case(
                        OUT,
                        "core_inflight_" + tag,
                        VERSIONS,
                        shown_config(n, **kw),
                        dump(n),
                        captured_at=time.time(),
                        note="state after BZPOPMIN+ZADD and before the ZPOPMIN of the backup",
                    )
                await a.close_pools()
                await b.close_pools()
        # encrypted with the old key only: must be readable by [KEY1, KEY2]
        old = RedisChannelLayer(hosts=urls(1), serializer_format=fmt, symmetric_encryption_keys=[KEY2])
        flush()
        await old.send("celery", {"type": "x"})
        write_case(
            OUT,
            "core_send_old_key_" + fmt,
            VERSIONS,
            shown_config(1, serializer_format=fmt, symmetric_encryption_keys=[KEY1, KEY2]),
            dump(1),
            captured_at=time.time(),
            input={"encrypted_with": KEY2},
            expect={"message": {"type": "x"}},
        )
        await old.close_pools()
    for length in (0, 4):
        flush()
        layer = RedisChannelLayer(hosts=urls(1), random_prefix_length=length)
        await layer.send("celery", {"type": "x"})
        write_case(
            OUT,
            "core_random_prefix_%d" % length,
            VERSIONS,
            shown_config(1, random_prefix_length=length),
            dump(1),
            captured_at=time.time(),
            expect={"message": {"type": "x"}},
        )
        await layer.close_pools()
    flush()
    layer = RedisChannelLayer(hosts=urls(1), prefix="my:prefix", expiry=10, group_expiry=3600, capacity=5000)
    await layer.group_add(GROUP, "specific.x!y")
    await layer.group_send(GROUP, WS)
    write_case(
        OUT,
        "core_other_prefix_expiry",
        VERSIONS,
        shown_config(1, prefix="my:prefix", expiry=10, group_expiry=3600, capacity=5000),
        dump(1),
        captured_at=time.time(),
        expect={"message": WS},
    )
    await layer.close_pools()
    flush()


def value_table():
    values = [
        None,
        True,
        False,
        0,
        1,
        -1,
        127,
        128,
        255,
        256,
        -32,
        -33,
        -128,
        -129,
        65535,
        65536,
        2**31,
        2**32 - 1,
        2**32,
        2**63 - 1,
        2**64 - 1,
        -(2**63),
        0.0,
        1.5,
        -2.25,
        1e300,
        "",
        "é",
        "a" * 31,
        "a" * 32,
        "a" * 255,
        "a" * 256,
        "a" * 65536,
        [],
        [1, "x", None],
        {},
        {"a": {"b": [1, 2]}},
        {"k%02d" % i: i for i in range(17)},
        list(range(16)),
    ]
    rows = []
    for v in values:
        m = {"type": "t", "v": v}
        rows.append(
            {
                "value": v if not (isinstance(v, str) and len(v) > 300) else {"repeat": v[0], "times": len(v)},
                "msgpack_b64": b64(msgpack.packb(m)) if not (isinstance(v, str) and len(v) > 300) else None,
                "msgpack_head_hex": msgpack.packb(m)[:16].hex(),
                "json": json.dumps(m) if not (isinstance(v, str) and len(v) > 300) else None,
            }
        )
    raw = [
        {"what": "bytes", "msgpack_b64": b64(msgpack.packb({"type": "t", "v": b"\x00\xff"}))},
        {"what": "tuple becomes list", "msgpack_b64": b64(msgpack.packb({"type": "t", "v": (1, 2)}))},
    ]
    errors = []
    import datetime

    for what, v in (("datetime", datetime.datetime(2026, 1, 1)), ("2**64", 2**64), ("set", {1}), ("lone surrogate", "\ud800")):
        row = {"what": what}
        for fmt, fn in (("msgpack", lambda m: msgpack.packb(m)), ("json", lambda m: json.dumps(m).encode())):
            try:
                row[fmt] = b64(fn({"type": "t", "v": v}))
            except Exception as e:
                row[fmt + "_error"] = "%s: %s" % (type(e).__name__, e)
        errors.append(row)
    write_case(
        OUT,
        "serializer_values",
        VERSIONS,
        {"serializers": ["msgpack", "json"]},
        values=rows,
        raw=raw,
        errors=errors,
        note="bodies only: the core layer puts 12 random bytes in front, the pubsub layer nothing",
    )


def name_table():
    base = BaseChannelLayer()
    cases = [
        "a",
        "a" * 99,
        "a" * 100,
        "",
        "with space",
        "dots.and-dashes_ok",
        "slash/no",
        "colon:no",
        "specific.abc!def",
        "specific.abc!",
        "!abc",
        "a!b!c",
        "a!",
        "é",
        "a!é",
        "٣",
        "a!٣",
        "tail\n",
        "a!b\n",
        "plus+no",
        "a$b",
        "a=b",
    ]
    rows = []
    for name in cases:
        row = {"name": name}
        for what, fn in (
            ("channel", lambda n: base.require_valid_channel_name(n)),
            ("channel_receive", lambda n: base.require_valid_channel_name(n, receive=True)),
            ("group", lambda n: base.require_valid_group_name(n)),
        ):
            try:
                row[what] = bool(fn(name))
            except TypeError:
                row[what] = False
        row["non_local_name"] = base.non_local_name(name)
        rows.append(row)
    write_case(OUT, "name_rules", VERSIONS, {"max_length_exclusive": base.MAX_NAME_LENGTH}, names=rows)


def capacity_table():
    spec = {"specific.*": 20, "celery": 200, "http.response!*": 10, re.compile(r"^gw\..+\!"): 5000}
    layer = BaseChannelLayer(capacity=100)
    layer.channel_capacity = layer.compile_capacities(spec)
    rows = [
        {"channel": c, "capacity": layer.get_capacity(c)}
        for c in (
            "specific.abc!def",
            "specific.abc!",
            "celery",
            "celery2",
            "other",
            "http.response!x",
            "http.response",
            "gw.1!x",
            "xgw.1!x",
        )
    ]
    write_case(
        OUT,
        "capacity",
        VERSIONS,
        {
            "capacity": 100,
            "channel_capacity": [
                {"glob": "specific.*", "capacity": 20},
                {"glob": "celery", "capacity": 200},
                {"glob": "http.response!*", "capacity": 10},
                {"regex_match_at_start": r"^gw\..+\!", "capacity": 5000},
            ],
        },
        channels=rows,
    )


def hosts_table():
    forms = [
        None,
        [],
        ["redis://127.0.0.1:6390/3"],
        ["redis://user:pw@127.0.0.1:6390/3"],
        ["rediss://127.0.0.1:6390/0"],
        ["unix:///run/redis.sock?db=2"],
        [["127.0.0.1", 6390]],
        [["127.0.0.1", 6390, 3]],
        [{"host": "127.0.0.1", "port": 6390, "db": 4, "password": "pw"}],
        [{"address": "redis://127.0.0.1:6390/3", "db": 5, "password": None, "socket_timeout": None}],
        [{"address": "redis://:pw@127.0.0.1:6390/3", "password": None}],
        [{"address": "redis://127.0.0.1:6390", "db": 5}],
        [{"sentinels": [["127.0.0.1", 26379]], "master_name": "mymaster", "sentinel_kwargs": {"password": "s"}, "db": 2, "password": "pw"}],
        "redis://127.0.0.1:6390/3",
    ]
    rows = []
    for form in forms:
        row = {"hosts": form}
        try:
            decoded = cr_utils.decode_hosts(form)
            pools = []
            for host in decoded:
                pool = cr_utils.create_pool(dict(host))
                kw = {
                    k: v
                    for k, v in pool.connection_kwargs.items()
                    if k in ("host", "port", "db", "username", "password", "path", "socket_timeout")
                }
                pools.append(
                    {
                        "pool": type(pool).__name__,
                        "connection": pool.connection_class.__name__,
                        "kwargs": kw,
                        "master": getattr(pool, "service_name", None),
                    }
                )
            row["pools"] = pools
        except Exception as e:
            row["error"] = "%s: %s" % (type(e).__name__, e)
        rows.append(row)
    write_case(OUT, "hosts_forms", VERSIONS, {}, hosts=rows)


class Monitor(threading.Thread):
    """Raw MONITOR lines, split into arguments; the text of Lua scripts is left out."""

    line_re = re.compile(r"^\+?[\d.]+ \[(\d+) ([^\]]+)\] (.*)$")

    def __init__(self):
        super().__init__(daemon=True)
        self.rows = []

    def run(self):
        sock = socket.create_connection(("127.0.0.1", PORT))
        sock.sendall(b"MONITOR\r\n")
        fd = sock.makefile("r", encoding="utf-8", errors="backslashreplace", newline="\r\n")
        fd.readline()
        for line in fd:
            m = self.line_re.match(line.strip())
            if not m:
                continue
            args = [a.replace('\\"', '"') for a in re.findall(r'"((?:[^"\\]|\\.)*)"', m.group(3))]
            if args and args[0].upper() == "EVAL":
                args[1] = "<script, %d characters>" % len(args[1])
            self.rows.append({"db": int(m.group(1)), "lua": m.group(2) == "lua", "args": args})


async def monitor():
    mon = Monitor()
    mon.start()
    time.sleep(0.3)
    for n in (1, 3):
        flush()
        await monitored(mon, n)


async def monitored(mon, n):
    """Each operation of the core layer as the commands that it sends."""
    a, b = RedisChannelLayer(hosts=urls(n)), RedisChannelLayer(hosts=urls(n))
    a1, a2, b1 = await a.new_channel(), await a.new_channel(), await b.new_channel()
    steps = []

    async def step(name, coro):
        await asyncio.sleep(0.1)
        mon.rows.clear()
        await coro
        await asyncio.sleep(0.15)
        left_out = ("SELECT", "PING", "CLIENT")
        rows = [r for r in mon.rows if DB0 <= r["db"] < DB0 + 5 and r["args"][0] not in left_out]
        steps.append({"step": name, "commands": [dict(r, shard=r["db"] - DB0) for r in rows]})

    await step("group_add a1", a.group_add(GROUP, a1))
    await step("group_add a2", a.group_add(GROUP, a2))
    await step("group_add b1", b.group_add(GROUP, b1))
    await step("group_send", a.group_send(GROUP, {"type": "ws_message", "message": "hi"}))
    await step("receive a1", a.receive(a1))
    await step("receive a2", a.receive(a2))
    await step("receive b1", b.receive(b1))
    await step("send b1", a.send(b1, {"type": "direct"}))
    await step("send general", a.send("celery", {"type": "direct"}))
    await step("receive general", b.receive("celery"))
    await step("group_discard a1", a.group_discard(GROUP, a1))
    await step("group_discard a2", a.group_discard(GROUP, a2))
    await step("flush", a.flush())
    await b.flush()
    note = (
        "Redis MONITOR output split into arguments; lua=true are commands run inside EVAL; binary shown with the escapes of MONITOR;"
        " the text of scripts is left out"
    )
    names = {"group": GROUP, "a1": a1, "a2": a2, "b1": b1}
    write_case(OUT, "monitor_core_shards%d" % n, VERSIONS, shown_config(n), [], input=names, steps=steps, note=note)


async def main():
    await core_messages()
    await monitor()
    value_table()
    name_table()
    capacity_table()
    hosts_table()
    flush()


if __name__ == "__main__":
    asyncio.run(main())
