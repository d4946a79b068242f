"""Task messages as they are published."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import time
import uuid
from zoneinfo import ZoneInfo

import kombu
from kombu import Exchange, Queue
from kombu.common import Broadcast

from recording import ID, Monitor, T, case, publish_case


@case("task_v2_simple", "add.apply_async((2, 3), task_id=ID) -- with the exact commands sent by a fresh publisher process")
def _(ctx):
    app = ctx.app()
    mon = Monitor(ctx.port)
    app.tasks[T + "add"].apply_async((2, 3), task_id=ID(1))
    mon.stop()
    return mon.entries() + ctx.dump()


publish_case(
    "task_v1_simple",
    "task_protocol=1: add.apply_async((2,), {'y': 3}, task_id=ID, expires=60)",
    lambda app: app.tasks[T + "add"].apply_async((2,), {"y": 3}, task_id=ID(1), expires=60),
    conf={"task_protocol": 1},
)

ALL_ARGS = [
    None,
    True,
    False,
    0,
    -1,
    2**53 + 1,
    10**30,
    1.5,
    1e300,
    0.1,
    "",
    "plain",
    "h\u00e9llo \u20ac \U0001f600",
    'quote " back \\ nl \n nul \x00',
    [],
    {},
    [1, [2, [3, [4]]]],
    {"a": {"b": {"c": [None, True]}}},
    dt.datetime(2024, 2, 29, 12, 30, 45),
    dt.datetime(2024, 2, 29, 12, 30, 45, 123456),
    dt.datetime(2024, 2, 29, 12, 30, 45, tzinfo=dt.timezone.utc),
    dt.datetime(2024, 7, 1, 8, 0, 0, 500000, tzinfo=ZoneInfo("Europe/Paris")),
    dt.date(2024, 2, 29),
    dt.time(23, 59, 59),
    dt.time(23, 59, 59, 999999),
    dt.time(1, 2, 3, tzinfo=dt.timezone.utc),
    decimal.Decimal("1.10"),
    decimal.Decimal("-1E+5"),
    decimal.Decimal("NaN"),
    uuid.UUID("12345678-1234-5678-1234-567812345678"),
    b"ascii bytes",
    "h\u00e9".encode(),
    b"\xff\xfe\x00\x01",
    b"",
    (1, "tuple"),
]

publish_case(
    "task_v2_all_argument_kinds",
    "echo.apply_async(ARGS) with every kind of JSON-serialisable "
    "argument: None, bools, ints, floats, unicode, nested, datetime "
    "(naive, micro, utc, zone), date, time, Decimal, UUID, bytes",
    lambda app: app.tasks[T + "echo"].apply_async(ALL_ARGS, task_id=ID(1)),
)

publish_case(
    "task_v2_nan_inf",
    "echo.apply_async([nan, inf, -inf]): Python writes the non-standard JSON tokens NaN/Infinity",
    lambda app: app.tasks[T + "echo"].apply_async([float("nan"), float("inf"), float("-inf")], task_id=ID(1)),
)

publish_case(
    "task_v2_kwargs",
    "echo.apply_async((), {'x': 1, 'name': 'Zo\u00eb', 'nested': {'k': [1, 2]}, 'when': datetime, 1: 'int key'})",
    lambda app: app.tasks[T + "echo"].apply_async(
        (), {"x": 1, "name": "Zo\u00eb", "nested": {"k": [1, 2]}, "when": dt.datetime(2024, 1, 2, 3, 4, 5)}, task_id=ID(1)
    ),
)

publish_case(
    "task_v2_long_args_repr",
    "echo.apply_async with a 3000 character string, a 300-element list and 6 nesting levels: shows argsrepr truncation",
    lambda app: app.tasks[T + "echo"].apply_async(
        ("x" * 3000, list(range(300)), [[[[[[1]]]]]]), {"deep": {"a": {"b": {"c": 1}}}}, task_id=ID(1)
    ),
)

publish_case(
    "task_v2_countdown",
    "add.apply_async((1, 2), countdown=10)",
    lambda app: app.tasks[T + "add"].apply_async((1, 2), task_id=ID(1), countdown=10),
)
publish_case(
    "task_v2_eta_utc",
    "add.apply_async((1, 2), eta=aware UTC datetime)",
    lambda app: app.tasks[T + "add"].apply_async((1, 2), task_id=ID(1), eta=dt.datetime(2030, 1, 2, 3, 4, 5, tzinfo=dt.timezone.utc)),
)
publish_case(
    "task_v2_eta_naive",
    "add.apply_async((1, 2), eta=naive datetime)",
    lambda app: app.tasks[T + "add"].apply_async((1, 2), task_id=ID(1), eta=dt.datetime(2030, 1, 2, 3, 4, 5)),
)
publish_case(
    "task_v2_eta_paris",
    "add.apply_async((1, 2), eta=aware Europe/Paris datetime with microseconds)",
    lambda app: app.tasks[T + "add"].apply_async(
        (1, 2), task_id=ID(1), eta=dt.datetime(2030, 7, 2, 3, 4, 5, 678901, tzinfo=ZoneInfo("Europe/Paris"))
    ),
)
publish_case(
    "task_v2_countdown_timezone_paris",
    "timezone='Europe/Paris', enable_utc=True: countdown=10, expires=20",
    lambda app: app.tasks[T + "add"].apply_async((1, 2), task_id=ID(1), countdown=10, expires=20),
    conf={"timezone": "Europe/Paris"},
)
publish_case(
    "task_v2_countdown_no_utc",
    "timezone='Europe/Paris', enable_utc=False: countdown=10, expires=20",
    lambda app: app.tasks[T + "add"].apply_async((1, 2), task_id=ID(1), countdown=10, expires=20),
    conf={"timezone": "Europe/Paris", "enable_utc": False},
)
publish_case(
    "task_v2_expires_seconds",
    "add.apply_async((1, 2), expires=60.5)",
    lambda app: app.tasks[T + "add"].apply_async((1, 2), task_id=ID(1), expires=60.5),
)
publish_case(
    "task_v2_expires_datetime",
    "add.apply_async((1, 2), expires=aware UTC datetime in the future)",
    lambda app: app.tasks[T + "add"].apply_async((1, 2), task_id=ID(1), expires=dt.datetime(2090, 1, 1, tzinfo=dt.timezone.utc)),
)

for _p in (0, 1, 2, 3, 5, 6, 8, 9, 10):
    publish_case(
        "task_v2_priority_%d" % _p,
        "add.apply_async((1, 2), priority=%d)" % _p,
        lambda app, p=_p: app.tasks[T + "add"].apply_async((1, 2), task_id=ID(1), priority=p),
    )

publish_case(
    "task_v2_priority_custom_steps",
    "broker_transport_options={'priority_steps': list(range(10)), 'sep': ':', 'queue_order_strategy': 'priority'}: priorities 0, 4, 9",
    lambda app: [app.tasks[T + "add"].apply_async((1, 2), task_id=ID(p), priority=p) for p in (0, 4, 9)],
    conf={"broker_transport_options": {"priority_steps": list(range(10)), "sep": ":", "queue_order_strategy": "priority"}},
)

publish_case(
    "task_v2_custom_queue",
    "add.apply_async((1, 2), queue='video') (queue created on the fly), with the binding sets",
    lambda app: app.tasks[T + "add"].apply_async((1, 2), task_id=ID(1), queue="video"),
    skip=(),
)
publish_case(
    "task_v2_topic_queue",
    "task_queues=[Queue('feeds', "
    "Exchange('feeds', 'topic'), 'feed.#')]; add.apply_async(queue="
    "'feeds', routing_key='feed.eu.news'), with the binding sets",
    lambda app: app.tasks[T + "add"].apply_async((1, 2), task_id=ID(1), queue="feeds", routing_key="feed.eu.news"),
    skip=(),
    conf={"task_queues": [Queue("celery", Exchange("celery"), "celery"), Queue("feeds", Exchange("feeds", "topic"), "feed.#")]},
)
publish_case(
    "task_v2_default_queue_renamed",
    "task_default_queue='main', task_routes={'demo.mul': {'queue': 'math'}}: add.delay(1, 2), mul.delay(3, 4)",
    lambda app: [app.tasks[T + "add"].apply_async((1, 2), task_id=ID(1)), app.tasks[T + "mul"].apply_async((3, 4), task_id=ID(2))],
    skip=(),
    conf={"task_default_queue": "main", "task_routes": {"demo.mul": {"queue": "math"}}},
)
publish_case(
    "task_v2_queue_x_expires",
    "task_queues=[Queue('short', expires=30)]: add.apply_async(queue=\"short\") -- list TTL and binding deadline",
    lambda app: app.tasks[T + "add"].apply_async((1, 2), task_id=ID(1), queue="short"),
    skip=(),
    conf={"task_queues": [Queue("short", Exchange("short"), "short", expires=30)]},
)
publish_case(
    "task_v2_global_keyprefix",
    "broker_transport_options={'global_keyprefix': 'pfx:'}, result_backend_transport_options the same: add.apply_async",
    lambda app: app.tasks[T + "add"].apply_async((1, 2), task_id=ID(1)),
    skip=(),
    conf={"broker_transport_options": {"global_keyprefix": "pfx:"}, "result_backend_transport_options": {"global_keyprefix": "pfx:"}},
)


BCAST = (Queue("celery", Exchange("celery"), routing_key="celery"), Broadcast("bcast_ex", queue="bcast_q"))


def _broadcast(ctx, declare):
    w = ctx.worker(argv=["--without-gossip", "--without-mingle", "--without-heartbeat"], spec={"bcast": True})
    try:
        keys = ctx.dump()
        app = ctx.app(task_queues=BCAST)
        mon = Monitor(ctx.port, keep={"SMEMBERS", "LPUSH", "PUBLISH", "ZADD", "HSET", "ZREM", "HDEL"})
        with app.producer_or_acquire() as producer:
            if declare:
                app.amqp.queues["bcast_ex"].exchange(producer.channel).declare()
            app.tasks[T + "nothing"].apply_async(task_id=ID(1), queue="bcast_ex", producer=producer)
        time.sleep(1.2)
        mon.stop()
        return keys + [e for e in mon.entries() if "pidbox" not in json.dumps(e)] + ctx.dump("bcast*")
    finally:
        w.stop()


@case(
    "task_v2_fanout_broadcast",
    "task_queues=[Broadcast('bcast_ex', "
    "queue='bcast_q')]; worker consuming it; nothing.apply_async(queue="
    "'bcast_ex') by a process that declared the exchange on its connection",
)
def _(ctx):
    return _broadcast(ctx, True)


@case(
    "task_v2_fanout_broadcast_undeclared",
    "the same by a process that never declared the exchange: kombu takes it for a direct exchange and pushes to a list nobody reads",
)
def _(ctx):
    return _broadcast(ctx, False)


publish_case(
    "task_v2_options",
    "apply_async with shadow, time_limit, "
    "soft_time_limit, headers={'x-trace': 'abc'}, correlation_id, "
    "reply_to, ignore_result, custom argsrepr/kwargsrepr",
    lambda app: app.tasks[T + "add"].apply_async(
        (1, 2),
        task_id=ID(1),
        shadow="pretty name",
        time_limit=30,
        soft_time_limit=20,
        headers={"x-trace": "abc"},
        reply_to="my-reply",
        ignore_result=True,
        argsrepr="<hidden>",
        kwargsrepr="<hidden>",
    ),
)
publish_case(
    "task_v2_ignore_result",
    "nothing.apply_async() where the task is declared with ignore_result=True",
    lambda app: app.tasks[T + "nothing"].apply_async(task_id=ID(1)),
)
publish_case(
    "task_v2_task_time_limits",
    "timed.apply_async() where the task is declared with time_limit=30, soft_time_limit=20",
    lambda app: app.tasks[T + "timed"].apply_async(task_id=ID(1)),
)
publish_case(
    "task_v2_send_task",
    "app.send_task('other.module.task', (1,), {'k': 'v'}) for a task unknown to the sender",
    lambda app: app.send_task("other.module.task", (1,), {"k": "v"}, task_id=ID(1)),
)


def _beat(app):
    from celery.beat import ScheduleEntry, Scheduler

    sched = Scheduler(app, lazy=True)
    entry = ScheduleEntry(name="every-10", task="demo.add", args=(1, 2), schedule=10, options={"task_id": ID(1)}, app=app)
    sched.apply_async(entry, advance=False)


publish_case("task_v2_from_beat", "celery beat sending a schedule entry: header 'celery_beat_task'", _beat)

for _c in ("gzip", "zlib", "bzip2", "lzma", "brotli", "zstd"):
    try:
        kombu.compression.get_encoder(_c)
    except KeyError:
        continue
    publish_case(
        "task_v2_compression_%s" % _c,
        "echo.apply_async(('abc' * 100,), compression=%r)" % _c,
        lambda app, c=_c: app.tasks[T + "echo"].apply_async(("abc" * 100,), task_id=ID(1), compression=c),
    )

RICH = (1, "h\u00e9", [1.5, None], {"k": True})
publish_case(
    "task_v2_msgpack",
    "echo.apply_async(RICH, {'kw': 1}, serializer='msgpack')",
    lambda app: app.tasks[T + "echo"].apply_async(RICH + (b"\x00\xff",), {"kw": 1}, task_id=ID(1), serializer="msgpack"),
)
publish_case(
    "task_v2_pickle",
    "echo.apply_async(RICH + (datetime, Decimal, bytes), {'kw': 1}, serializer='pickle')",
    lambda app: app.tasks[T + "echo"].apply_async(
        RICH + (dt.datetime(2024, 1, 2), decimal.Decimal("1.5"), b"\x00\xff"), {"kw": 1}, task_id=ID(1), serializer="pickle"
    ),
)
if "yaml" in kombu.serialization.registry._encoders:
    publish_case(
        "task_v2_yaml",
        "echo.apply_async(RICH + (datetime, date), {'kw': 1}, serializer='yaml')",
        lambda app: app.tasks[T + "echo"].apply_async(
            list(RICH) + [dt.datetime(2024, 1, 2, 3, 4, 5), dt.date(2024, 1, 2)], {"kw": 1}, task_id=ID(1), serializer="yaml"
        ),
    )
for _s in ("msgpack", "yaml", "pickle"):
    if not kombu.serialization.registry._encoders.get(_s):
        continue
    publish_case(
        "task_v1_%s" % _s,
        "task_protocol=1: add.apply_async((2,), {'y': 3}, serializer=%r)" % _s,
        lambda app, s=_s: app.tasks[T + "add"].apply_async((2,), {"y": 3}, task_id=ID(1), serializer=s),
        conf={"task_protocol": 1},
    )
publish_case(
    "task_v2_pickle_canvas",
    "chain with link and link_error, serializer='pickle': signatures as objects in the embed",
    lambda app: app.tasks[T + "add"].apply_async(
        (1, 2),
        task_id=ID(1),
        serializer="pickle",
        link=[app.tasks[T + "mul"].s(3).set(task_id=ID(2))],
        link_error=[app.tasks[T + "on_error_old"].s().set(task_id=ID(3))],
        chain=[app.tasks[T + "mul"].s(4).set(task_id=ID(4))],
        chord=app.tasks[T + "xsum"].s().set(task_id=ID(5)),
    ),
)
publish_case(
    "task_v2_pickle_lzma",
    "echo.apply_async(RICH, serializer='pickle', compression='lzma')",
    lambda app: app.tasks[T + "echo"].apply_async(RICH, {"kw": 1}, task_id=ID(1), serializer="pickle", compression="lzma"),
)
