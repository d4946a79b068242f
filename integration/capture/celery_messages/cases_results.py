"""Results, and the messages that a worker sends while it runs tasks."""

from __future__ import annotations

import datetime as dt
import time

import kombu
from celery import chain

from cases_canvas import _sigs
from recording import ID, META, QUIET, Monitor, T, Tap, case


def meta_case(name, words, call, wait, conf=None, tid=None, argv=(), pattern=META, client_conf=None):
    @case(name, words)
    def run(ctx):
        w = ctx.worker(argv=QUIET + list(argv), **(conf or {}))
        try:
            app = ctx.app(**dict(conf or {}, **(client_conf or {})))
            tap = Tap(ctx.port)
            call(app)
            if callable(wait):
                wait(ctx)
            else:
                ctx.wait_meta(tid or ID(1), wait)
            time.sleep(0.3)
            tap.stop()
            return ctx.dump(pattern) + tap.entries(b"celery-task-meta")
        finally:
            w.stop()

    return run


def runs(task, *args, **kw):
    return lambda app: app.tasks[T + task].apply_async(args, task_id=ID(1), **kw)


meta_case(
    "result_success",
    "add.apply_async((2, 3)) executed; stored meta and the message published on the channel named like the key",
    runs("add", 2, 3),
    "SUCCESS",
)
meta_case(
    "result_success_extended",
    "the same with result_extended=True, kwargs and a stamp",
    lambda app: app.tasks[T + "echo"].apply_async((2,), {"y": 3}, task_id=ID(1), stamped_headers=["tenant"], tenant="a"),
    "SUCCESS",
    conf={"result_extended": True},
)
meta_case("result_success_typed", "task returning datetime, Decimal and bytes", runs("ret_types"), "SUCCESS")
meta_case("result_failure", "fail_value.apply_async(('boom',))", runs("fail_value", "boom"), "FAILURE")
meta_case(
    "result_failure_extended", "the same with result_extended=True", runs("fail_value", "boom"), "FAILURE", conf={"result_extended": True}
)
meta_case("result_failure_custom", "task raising CustomError(42, {...}) defined in the task module", runs("fail_custom"), "FAILURE")
meta_case("result_failure_nested_class", "task raising Outer.NestedError (a class inside a class)", runs("fail_nested"), "FAILURE")
meta_case(
    "result_failure_opaque_args",
    'task raising RuntimeError(object(), "plain"): an argument JSON cannot encode',
    runs("fail_opaque"),
    "FAILURE",
)
meta_case("result_failure_noargs", "task raising KeyError()", runs("fail_noargs"), "FAILURE")
meta_case("result_failure_max_retries", "task exceeding max_retries=0", runs("retry_max"), "FAILURE")
meta_case("result_failure_time_limit", "task with time_limit=1 sleeping 30 s", runs("hard"), "FAILURE")
meta_case(
    "result_failure_unregistered", "send_task('no.such.task')", lambda app: app.send_task("no.such.task", (1,), task_id=ID(1)), "FAILURE"
)
meta_case(
    "result_started",
    "track_started=True: meta while a 1.5 s task runs (first published message), then the result",
    runs("slow", 1.5),
    lambda ctx: ctx.wait_meta(ID(1), "SUCCESS"),
    conf={"task_track_started": True},
)
meta_case(
    "result_started_extended",
    "the same with result_extended=True",
    runs("slow", 1.5),
    lambda ctx: ctx.wait_meta(ID(1), "SUCCESS"),
    conf={"task_track_started": True, "result_extended": True},
)
meta_case(
    "result_custom_state", "task calling update_state('PROGRESS', meta)", runs("progress"), lambda ctx: ctx.wait_meta(ID(1), "SUCCESS")
)
meta_case("result_children", "task that calls add.delay(1, 1): children field", runs("parent"), "SUCCESS")
meta_case(
    "result_ignored_predicate",
    "task raising Ignore with task_track_started: state stays STARTED",
    runs("ignore_me"),
    lambda ctx: (ctx.wait_meta(ID(1), "STARTED"), time.sleep(1)),
    conf={"task_track_started": True},
)
meta_case("result_rejected_predicate", "task raising Reject(requeue=False) (acks_late)", runs("reject_me"), "FAILURE")
meta_case(
    "result_revoked_expired",
    "task already expired when received",
    lambda app: app.tasks[T + "add"].apply_async((1, 2), task_id=ID(1), expires=dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)),
    "REVOKED",
)
meta_case(
    "result_revoked_expired_extended",
    "the same with result_extended",
    lambda app: app.tasks[T + "add"].apply_async((1, 2), task_id=ID(1), expires=dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)),
    "REVOKED",
    conf={"result_extended": True},
)
meta_case(
    "result_retry", "retry_me.apply_async((1,)) -> RETRY meta; see task_v2_retry_message for the message", runs("retry_me", 1), "RETRY"
)
meta_case("result_retry_extended", "the same with result_extended=True", runs("retry_me", 1), "RETRY", conf={"result_extended": True})
meta_case("result_expires_zero", "result_expires=0: SET without TTL", runs("add", 2, 3), "SUCCESS", conf={"result_expires": 0})
meta_case("result_expires_3600", "result_expires=3600", runs("add", 2, 3), "SUCCESS", conf={"result_expires": 3600})
meta_case(
    "result_global_keyprefix",
    "result_backend_transport_options={'global_keyprefix': 'app1'} (no separator at the end)",
    runs("add", 2, 3),
    lambda ctx: ctx.wait(lambda: ctx.r.keys("app1*")),
    pattern="app1*",
    conf={"result_backend_transport_options": {"global_keyprefix": "app1"}},
)
meta_case(
    "result_compressed",
    "result_compression='gzip'",
    runs("add", 2, 3),
    lambda ctx: ctx.wait(lambda: ctx.r.keys(META)),
    conf={"result_compression": "gzip"},
)
meta_case(
    "result_serializer_pickle",
    "result_serializer='pickle', accept_content=['json', 'pickle']: success",
    runs("add", 2, 3),
    lambda ctx: ctx.wait(lambda: ctx.r.keys(META)),
    conf={"result_serializer": "pickle", "accept_content": ["json", "pickle"]},
)
meta_case(
    "result_serializer_msgpack",
    "result_serializer='msgpack'",
    runs("add", 2, 3),
    lambda ctx: ctx.wait(lambda: ctx.r.keys(META)),
    conf={"result_serializer": "msgpack", "accept_content": ["json", "msgpack"]},
)
for _s in ("msgpack", "yaml", "pickle"):
    if not kombu.serialization.registry._encoders.get(_s):
        continue
    _conf = {"result_serializer": _s, "accept_content": ["json", _s]}
    if _s == "yaml":
        meta_case("result_serializer_yaml", "result_serializer='yaml'", runs("add", 2, 3), "SUCCESS", conf=_conf)
    for _name, _task, _state in (
        ("failure", "fail_value", "FAILURE"),
        ("failure_custom", "fail_custom", "FAILURE"),
        ("failure_opaque_args", "fail_opaque", "FAILURE"),
        ("failure_time_limit", "hard", "FAILURE"),
        ("failure_max_retries", "retry_max", "FAILURE"),
    ):
        meta_case("result_%s_%s" % (_name, _s), "the same with result_serializer=%r" % _s, runs(_task), _state, conf=_conf)
    meta_case("result_retry_%s" % _s, "the same with result_serializer=%r" % _s, runs("retry_me", 1), "RETRY", conf=_conf)
    meta_case("result_children_%s" % _s, "the same with result_serializer=%r" % _s, runs("parent"), "SUCCESS", conf=_conf)
    meta_case(
        "result_revoked_expired_%s" % _s,
        "the same with result_serializer=%r" % _s,
        lambda app: app.tasks[T + "add"].apply_async((1, 2), task_id=ID(1), expires=dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)),
        "REVOKED",
        conf=_conf,
    )
for _c in ("bzip2", "lzma", "brotli", "zstd"):
    try:
        kombu.compression.get_encoder(_c)
    except KeyError:
        continue
    meta_case(
        "result_compressed_%s" % _c,
        "result_compression=%r" % _c,
        runs("add", 2, 3),
        lambda ctx: ctx.wait(lambda: ctx.r.keys(META)),
        conf={"result_compression": _c},
    )
meta_case(
    "result_compressed_pickle",
    "result_compression='zlib', result_serializer='pickle'",
    runs("fail_value", "boom"),
    lambda ctx: ctx.wait(lambda: ctx.r.keys(META)),
    conf={"result_compression": "zlib", "result_serializer": "pickle", "accept_content": ["json", "pickle"]},
)
meta_case("result_timezone_paris", "timezone='Europe/Paris': date_done", runs("add", 2, 3), "SUCCESS", conf={"timezone": "Europe/Paris"})


@case(
    "result_revoked_by_control",
    "task revoked with app.control.revoke(id) "
    "while no worker has seen it, then published; meta written by the revoke "
    "command and by the worker that discards the task",
)
def _(ctx):
    w = ctx.worker(argv=QUIET)
    try:
        app = ctx.app()
        tap = Tap(ctx.port)
        app.control.revoke(ID(1))
        ctx.wait_meta(ID(1), "REVOKED")
        first = ctx.dump(META)
        app.tasks[T + "add"].apply_async((1, 2), task_id=ID(1))
        time.sleep(1.5)
        tap.stop()
        return first + ctx.dump(META) + tap.entries(b"celery-task-meta")
    finally:
        w.stop()


@case("result_revoked_terminated", "running task terminated with app.control.revoke(id, terminate=True)")
def _(ctx):
    w = ctx.worker(argv=QUIET)
    try:
        app = ctx.app()
        app.tasks[T + "slow"].apply_async((60,), task_id=ID(1))
        time.sleep(1.5)
        app.control.revoke(ID(1), terminate=True)
        ctx.wait_meta(ID(1), "REVOKED")
        time.sleep(0.3)
        return ctx.dump(META)
    finally:
        w.stop()


@case("result_store_commands", "exact Redis commands used to store one SUCCESS and one FAILURE result")
def _(ctx):
    w = ctx.worker(argv=QUIET)
    try:
        app = ctx.app()
        mon = Monitor(ctx.port, keep={"GET", "SETEX", "SET", "PUBLISH", "MULTI", "EXEC"})
        app.tasks[T + "add"].apply_async((2, 3), task_id=ID(1))
        ctx.wait(lambda: b"SUCCESS" in (ctx.r.execute_command("GETRANGE", "celery-task-meta-" + ID(1), 0, -1) or b""))
        app.tasks[T + "fail_value"].apply_async(("boom",), task_id=ID(2))
        ctx.wait(lambda: b"FAILURE" in (ctx.r.execute_command("GETRANGE", "celery-task-meta-" + ID(2), 0, -1) or b""))
        mon.stop()
        return mon.entries()
    finally:
        w.stop()


@case("result_get_commands", "exact Redis commands of a client: add.apply_async((2, 3)).get(timeout=10)")
def _(ctx):
    w = ctx.worker(argv=QUIET)
    try:
        app = ctx.app()
        mon = Monitor(ctx.port, keep={"GET", "MGET", "SUBSCRIBE", "UNSUBSCRIBE", "SETEX", "PUBLISH", "LPUSH", "MULTI", "EXEC"})
        app.tasks[T + "slow"].apply_async((0.5,), task_id=ID(1)).get(timeout=10)
        mon.stop()
        return mon.entries()
    finally:
        w.stop()


@case("task_v2_retry_message", "the message put back by self.retry(exc=..., countdown=3600) inside a running task")
def _(ctx):
    w = ctx.worker(argv=QUIET)
    try:
        app = ctx.app()
        mon = Monitor(ctx.port, keep={"LPUSH", "RPUSH"})
        app.tasks[T + "retry_me"].apply_async((1,), task_id=ID(1), priority=6, headers={"x-trace": "abc"}, link=app.tasks[T + "add"].s(1))
        ctx.wait_meta(ID(1), "RETRY")
        mon.stop()
        return mon.entries()
    finally:
        w.kill9()


def lpush_case(name, words, call, wait, conf=None, keep=("LPUSH", "RPUSH")):
    @case(name, words)
    def run(ctx):
        w = ctx.worker(argv=QUIET, **(conf or {}))
        try:
            app = ctx.app(**(conf or {}))
            mon = Monitor(ctx.port, keep=set(keep))
            call(app)
            wait(ctx)
            time.sleep(0.3)
            mon.stop()
            return mon.entries() + ctx.dump(META)
        finally:
            w.stop()

    return run


def metas(ctx, n, timeout=15):
    def ready():
        vals = [ctx.r.get(k) or b"" for k in ctx.r.keys(META)]
        return sum(b'"SUCCESS"' in v or b'"FAILURE"' in v for v in vals) >= n

    ctx.wait(ready, timeout, "%d results" % n)


lpush_case(
    "exec_chain",
    "every message pushed while chain(add.s(1, 2), add.s(10), mul.s(3)) runs to the end",
    lambda app: (lambda s: chain(s["add"].s(1, 2), s["add"].s(10), s["mul"].s(3)).apply_async())(_sigs(app)),
    lambda ctx: metas(ctx, 3),
)
lpush_case(
    "exec_link",
    "every message pushed while add.apply_async((1, 2), link=[add.s(10), add.s(20)]) runs to the end",
    lambda app: app.tasks[T + "add"].apply_async((1, 2), task_id=ID(1), link=[app.tasks[T + "add"].s(10), app.tasks[T + "add"].s(20)]),
    lambda ctx: metas(ctx, 3),
)
lpush_case(
    "exec_link_error",
    "messages pushed when fail_value fails with "
    "link_error=[on_error_new.s(), on_error_old.s()]: the new-style "
    "errback is called inside the worker, the old-style one is sent",
    lambda app: app.tasks[T + "fail_value"].apply_async(
        ("x",), task_id=ID(1), link_error=[app.tasks[T + "on_error_new"].s(), app.tasks[T + "on_error_old"].s()]
    ),
    lambda ctx: metas(ctx, 2),
)
lpush_case(
    "exec_chain_failure",
    'chain(fail_value.s("x"), add.s(1), add.s(2)) where the first step fails: metas of the later steps',
    lambda app: (lambda s: chain(s["fail_value"].s("x"), s["add"].s(1), s["add"].s(2)).apply_async())(_sigs(app)),
    lambda ctx: metas(ctx, 3),
)
lpush_case(
    "exec_replace",
    "messages pushed when replace_me calls self.replace(add.s(x, 1000))",
    lambda app: app.tasks[T + "replace_me"].apply_async((1,), task_id=ID(1)),
    lambda ctx: metas(ctx, 1),
)
lpush_case(
    "exec_subtask",
    "message pushed by add.delay(1, 1) inside a task (root_id and parent_id)",
    lambda app: app.tasks[T + "parent"].apply_async(task_id=ID(1)),
    lambda ctx: metas(ctx, 2),
)
