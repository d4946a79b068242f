"""How a worker takes, holds, gives back and restores messages."""

from __future__ import annotations

import signal
import time

from recording import ID, META, QUIET, Monitor, T, case


@case(
    "unacked_entries",
    "worker (acks_late, concurrency 1, multiplier 4) holding "
    "one running and three prefetched messages, one of them with priority 6: "
    "unacked hash and unacked_index zset",
)
def _(ctx):
    w = ctx.worker(argv=QUIET)
    try:
        app = ctx.app()
        app.tasks[T + "late"].apply_async((60,), task_id=ID(1))
        app.tasks[T + "late"].apply_async((60,), task_id=ID(2), priority=6)
        app.tasks[T + "late"].apply_async((60,), task_id=ID(3))
        app.tasks[T + "add"].apply_async((1, 2), task_id=ID(4))
        app.tasks[T + "add"].apply_async((1, 2), task_id=ID(5))
        time.sleep(2.5)
        return ctx.dump("unacked*") + ctx.dump("celery*")
    finally:
        w.kill9()


@case("unacked_consume_commands", "exact commands of a worker taking one message (early ack): BRPOP, ZADD/HSET, ZREM/HDEL")
def _(ctx):
    w = ctx.worker(argv=QUIET)
    try:
        app = ctx.app()
        mon = Monitor(ctx.port)
        app.tasks[T + "nothing"].apply_async(task_id=ID(1))
        time.sleep(1.2)
        mon.stop()
        return mon.entries()
    finally:
        w.stop()


RESTORE = {"visibility_timeout": 2, "unacked_restore_interval": 1, "unacked_restore_throttle": 1}


@case(
    "unacked_restore_after_crash",
    "worker killed with SIGKILL while holding "
    "two messages (one with priority 6); a second worker with "
    "visibility_timeout=2 restores them: exact commands of the restore, and the "
    "message as it lies in the queue afterwards",
)
def _(ctx):
    w = ctx.worker(argv=QUIET)
    app = ctx.app()
    app.tasks[T + "late"].apply_async((60,), task_id=ID(1))
    app.tasks[T + "late"].apply_async((60,), task_id=ID(2), priority=6)
    time.sleep(2)
    w.kill9()
    before = ctx.dump("unacked*")
    time.sleep(2.5)
    mon = Monitor(ctx.port, drop={"PING", "CLIENT"})
    w2 = ctx.worker("w2@golden", argv=QUIET + ["-Q", "other"], broker_transport_options=RESTORE)
    try:
        ctx.wait(lambda: not mon.lines or ctx.r.execute_command("EXISTS", "celery"), 10)
        time.sleep(2)
        mon.stop()
        return before + mon.entries() + ctx.dump("celery*") + ctx.dump("unacked*")
    finally:
        w2.kill9()


@case("unacked_warm_shutdown", "SIGTERM while one task runs (4 s) and three are prefetched: exact commands, and what is left in the queue")
def _(ctx):
    w = ctx.worker(argv=QUIET)
    try:
        app = ctx.app()
        for i in range(1, 5):
            app.tasks[T + "slow"].apply_async((4,), task_id=ID(i))
        time.sleep(2)
        before = ctx.dump("unacked*")
        mon = Monitor(ctx.port, drop={"PING"})
        w.stop()
        mon.stop()
        return before + mon.entries() + ctx.dump("celery") + ctx.dump("unacked*")
    finally:
        w.stop()


@case("unacked_cold_shutdown", "SIGQUIT while one acks_late task runs (60 s) and one is prefetched: exact commands, and what is left")
def _(ctx):
    w = ctx.worker(argv=QUIET)
    try:
        app = ctx.app()
        for i in range(1, 3):
            app.tasks[T + "late"].apply_async((60,), task_id=ID(i))
        time.sleep(2)
        mon = Monitor(ctx.port, drop={"PING"})
        w.stop(signal.SIGQUIT)
        mon.stop()
        return mon.entries() + ctx.dump("celery*") + ctx.dump("unacked*")
    finally:
        w.stop()


@case("unacked_reject_requeue", "task raising Reject(requeue=True) (acks_late): commands up to the message being back in the queue")
def _(ctx):
    w = ctx.worker(argv=QUIET)
    try:
        app = ctx.app()
        mon = Monitor(ctx.port, drop={"PING", "BRPOP"})
        app.tasks[T + "reject_me"].apply_async((True,), task_id=ID(1))
        ctx.wait(lambda: any(a[0].upper() == b"LPUSH" and b"redelivered" in a[-1] for _, a in list(mon.lines)))
        mon.stop()
        return mon.entries()[:30]
    finally:
        w.kill9()


@case("worker_refused_content", "a pickle message for a worker with accept_content=['json']: commands (the message is acked/dropped)")
def _(ctx):
    w = ctx.worker(argv=QUIET)
    try:
        app = ctx.app()
        mon = Monitor(ctx.port, drop={"PING", "BRPOP"})
        app.tasks[T + "add"].apply_async((1, 2), task_id=ID(1), serializer="pickle")
        time.sleep(1.5)
        mon.stop()
        return mon.entries() + ctx.dump(META) + ctx.dump("unacked*")
    finally:
        w.stop()


@case("worker_startup_commands", "every command of a default worker (-c 1) from start to ready, db 0")
def _(ctx):
    mon = Monitor(ctx.port)
    w = ctx.worker()
    time.sleep(1.5)
    mon.stop()
    try:
        return mon.entries()
    finally:
        w.stop()


@case(
    "worker_global_keyprefix",
    "broker_transport_options={'global_keyprefix': "
    "'pfx:'}: keys and all commands of a worker (events on) holding one "
    "acks_late task, and of an inspect ping",
)
def _(ctx):
    conf = {"broker_transport_options": {"global_keyprefix": "pfx:"}}
    mon = Monitor(
        ctx.port,
        keep={"BRPOP", "PSUBSCRIBE", "PUBLISH", "ZADD", "HSET", "LPUSH", "SET", "ZRANGE", "EVALSHA", "SADD", "SREM", "SMEMBERS", "LLEN"},
    )
    w = ctx.worker(argv=["-E", "--without-mingle"], **conf)
    try:
        app = ctx.app(**conf)
        app.tasks[T + "late"].apply_async((60,), task_id=ID(1))
        time.sleep(1.2)
        app.control.inspect(timeout=1).ping()
        mon.stop()
        return mon.entries() + ctx.dump()
    finally:
        w.kill9()


@case("worker_brpop_order", "worker -Q a,b with default priority_steps: the BRPOP key order, and its rotation after messages from a")
def _(ctx):
    w = ctx.worker(argv=QUIET + ["-Q", "a,b"])
    try:
        app = ctx.app()
        mon = Monitor(ctx.port, keep={"BRPOP"})
        time.sleep(1.2)
        app.tasks[T + "nothing"].apply_async(task_id=ID(1), queue="a")
        time.sleep(1.2)
        mon.stop()
        return mon.entries()
    finally:
        w.stop()


@case("worker_direct_queue", "worker_direct=True: binding, BRPOP keys, and nothing.apply_async(queue=worker_direct('w1@golden'))")
def _(ctx):
    from celery.utils.nodenames import worker_direct

    w = ctx.worker(argv=QUIET, worker_direct=True)
    try:
        keys = ctx.dump("_kombu*")
        app = ctx.app()
        mon = Monitor(ctx.port, keep={"BRPOP", "LPUSH"})
        app.tasks[T + "nothing"].apply_async(task_id=ID(1), queue=worker_direct("w1@golden"))
        time.sleep(1.2)
        mon.stop()
        return keys + mon.entries()
    finally:
        w.stop()


@case("binding_sets", "all _kombu.* keys while a default worker runs and after an `inspect ping`")
def _(ctx):
    w = ctx.worker()
    try:
        running = ctx.dump("_kombu*")
        ctx.app().control.inspect(timeout=1).ping()
        after = ctx.dump("_kombu*")
        return running + [dict(e, note="after inspect ping") for e in after]
    finally:
        w.stop()
