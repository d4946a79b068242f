"""Chords and saved groups in the result backend."""

from __future__ import annotations

import time

from celery import chain, chord, group

from cases_canvas import _sigs
from recording import QUIET, TASKS_ONLY, Monitor, T, case

CHORD_KEEP = {
    *("LPUSH", "EVALSHA", "EVAL", "SCRIPT", "ZADD", "RPUSH", "ZCOUNT", "ZRANGE", "SADD", "SISMEMBER", "GET", "SET", "SETEX", "DEL"),
    *("INCRBY", "LRANGE", "EXPIRE", "PUBLISH", "EXISTS", "LLEN", "MULTI", "EXEC", "MGET"),
}


def half_done(name, words, conf=None):
    """The keys of a chord of which one of two tasks has ended."""

    @case(name, words)
    def run(ctx):
        w = ctx.worker(argv=[*QUIET, "-P", "prefork", "-c", "2"], **(conf or {}))
        try:
            app = ctx.app(**(conf or {}))
            s = _sigs(app)
            res = chord([s["add"].s(1, 1), app.tasks[T + "slow"].s(3)])(s["xsum"].s())
            ctx.wait(lambda: ctx.r.keys("celery-taskset-meta-*.j"))
            time.sleep(0.3)
            out = ctx.dump("celery-taskset-meta-*")
            res.get(timeout=20)
            return out
        finally:
            w.stop()


half_done(
    "chord_counters_half_done", "chord([add.s(1, 1), slow.s(3)])(xsum.s()) after the first header task finished: keys .j .s .d and TTLs"
)
half_done(
    "chord_unordered",
    "result_backend_transport_options={'result_chord_ordered': False}: the .j key is a list",
    {"result_backend_transport_options": {"result_chord_ordered": False}},
)


@case("chord_counters_done_marker", "keys left after a finished chord")
def _done(ctx):
    w = ctx.worker(argv=QUIET)
    try:
        s = _sigs(ctx.app())
        chord([s["add"].s(1, 1), s["add"].s(2, 2)])(s["xsum"].s()).get(timeout=20)
        time.sleep(0.5)
        return ctx.dump("celery-taskset-meta-*")
    finally:
        w.stop()


@case("chord_commands", "all result-backend commands while chord([add.s(1, 1), add.s(2, 2)])(xsum.s()) runs (one worker)")
def _commands(ctx):
    w = ctx.worker(argv=QUIET)
    try:
        s = _sigs(ctx.app())
        mon = Monitor(ctx.port, keep=CHORD_KEEP)
        chord([s["add"].s(1, 1), s["add"].s(2, 2)])(s["xsum"].s()).get(timeout=20)
        mon.stop()
        return mon.entries()
    finally:
        w.stop()


@case("chord_failure", 'chord([add.s(1, 1), fail_value.s("x")])(xsum.s()): all metas and remaining chord keys')
def _failure(ctx):
    w = ctx.worker(argv=QUIET)
    try:
        s = _sigs(ctx.app())
        res = chord([s["add"].s(1, 1), s["fail_value"].s("x")])(s["xsum"].s())
        ctx.wait_meta(res.id, "FAILURE")
        time.sleep(0.5)
        return ctx.dump("celery-task*")
    finally:
        w.stop()


@case(
    "chord_complex_header",
    "chord([chain(add.s(1, 1), group(add.s(1), add.s(2))), add.s(3, 3)])(echo.s()): a header with the result of a group is stored",
)
def _complex(ctx):
    s = _sigs(ctx.app())
    chord([chain(s["add"].s(1, 1), group(s["add"].s(1), s["add"].s(2))), s["add"].s(3, 3)])(s["echo"].s())
    return ctx.dump(skip=TASKS_ONLY)


@case("group_meta_saved", "group(add.s(1, 1), add.s(2, 2)).apply_async().save()")
def _saved(ctx):
    s = _sigs(ctx.app())
    group(s["add"].s(1, 1), s["add"].s(2, 2)).apply_async().save()
    return ctx.dump("celery-taskset-meta-*")
