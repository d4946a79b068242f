"""Remote control, and events."""

from __future__ import annotations

import datetime as dt
import json
import time

from recording import ID, QUIET, Monitor, T, Tap, case, scrub


@case(
    "pidbox_ping",
    "app.control.inspect(timeout=1).ping() with one worker: the broadcast, the reply queue, all commands of the client and worker",
)
def _(ctx):
    w = ctx.worker(argv=QUIET)
    try:
        app = ctx.app()
        mon = Monitor(ctx.port, keep={"PUBLISH", "LPUSH", "SADD", "SREM", "DEL", "EVALSHA", "PEXPIRE", "BRPOP", "PSUBSCRIBE"})
        reply = app.control.inspect(timeout=1).ping()
        mon.stop()
        return mon.entries() + [answered(reply)]
    finally:
        w.stop()


def answered(reply):
    return {"type": "python-reply", "value_utf8": json.dumps(reply)}


def of_pidbox(mon):
    return [e for e in mon.entries() if "pidbox" in json.dumps(e)]


def control_case(name, words, call, before=None, argv=(), base=None):
    @case(name, words)
    def run(ctx):
        w = ctx.worker(argv=(QUIET if base is None else base) + list(argv))
        try:
            app = ctx.app()
            if before:
                before(app)
                time.sleep(1.5)
            mon = Monitor(ctx.port, keep={"PUBLISH", "LPUSH"})
            reply = call(app)
            mon.stop()
            return of_pidbox(mon) + [answered(json.loads(scrub(json.dumps(reply, default=repr).encode())))]
        finally:
            w.kill9()

    return run


def inspect_case(name, words, call, **more):
    control_case("inspect_" + name, words, lambda app: call(app.control.inspect(timeout=1)), **more)


def busy(app):
    """One active, one reserved, one scheduled task; one revoked id."""
    app.tasks[T + "late"].apply_async((60,), {}, task_id=ID(1))
    app.tasks[T + "late"].apply_async((60,), task_id=ID(2))
    app.tasks[T + "echo"].apply_async(("later",), {"k": "v"}, task_id=ID(3), countdown=3600)
    app.control.revoke(ID(99))


for _name in (
    "active",
    "reserved",
    "scheduled",
    "revoked",
    "registered",
    "stats",
    "active_queues",
    "conf",
    "report",
    "clock",
    "memsample",
    "memdump",
):
    inspect_case(
        _name,
        f"app.control.inspect(timeout=1).{_name}() with one active, one reserved and one scheduled task",
        lambda inspect, name=_name: getattr(inspect, name)(),
        before=busy,
    )
inspect_case("active_safe", "inspect().active(safe=True)", lambda inspect: inspect.active(safe=True), before=busy)
inspect_case("conf_defaults", "inspect().conf(with_defaults=True)", lambda inspect: inspect.conf(with_defaults=True))
inspect_case(
    "registered_items",
    "inspect().registered('rate_limit', 'max_retries')",
    lambda inspect: inspect.registered("rate_limit", "max_retries"),
)
inspect_case(
    "query_task",
    "inspect().query_task(active, reserved, scheduled, unknown)",
    lambda inspect: inspect.query_task(ID(1), ID(2), ID(3), "unknown"),
    before=busy,
)
inspect_case(
    "hello", "inspect().hello('other@node', [ID]) -- what mingle sends", lambda inspect: inspect.hello("other@node", [ID(7)]), before=busy
)
inspect_case("stats_autoscale", "stats of a worker with --autoscale=2,1", lambda inspect: inspect.stats(), argv=["--autoscale=2,1"])
inspect_case(
    "active_queues_custom",
    "active_queues of a worker with -Q celery,video (video created on the fly)",
    lambda inspect: inspect.active_queues(),
    argv=["-Q", "celery,video"],
)
control_case(
    "inspect_destination",
    "inspect(destination=['w1@golden']).ping()",
    lambda app: app.control.inspect(destination=["w1@golden"], timeout=1).ping(),
)
control_case(
    "inspect_pattern",
    "inspect(pattern='w*@golden', matcher='glob').ping()",
    lambda app: app.control.inspect(pattern="w*@golden", matcher="glob", timeout=1).ping(),
)

CONTROL = {
    "revoke": lambda c: c.revoke(ID(1), reply=True),
    "revoke_list": lambda c: c.revoke([ID(1), ID(2)], reply=True),
    "terminate": lambda c: c.terminate(ID(1), signal="SIGKILL", reply=True),
    "revoke_by_stamped_headers": lambda c: c.revoke_by_stamped_headers({"tenant": ["a"]}, reply=True),
    "rate_limit": lambda c: c.rate_limit("demo.add", "10/m", reply=True),
    "rate_limit_bad": lambda c: c.rate_limit("demo.add", "often", reply=True),
    "rate_limit_unknown": lambda c: c.rate_limit("no.task", "1/s", reply=True),
    "time_limit": lambda c: c.time_limit("demo.add", soft=5, hard=10, reply=True),
    "enable_events": lambda c: c.enable_events(reply=True),
    "disable_events": lambda c: c.disable_events(reply=True),
    "pool_grow": lambda c: c.pool_grow(1, reply=True),
    "pool_shrink": lambda c: c.pool_shrink(1, reply=True),
    "pool_restart": lambda c: c.pool_restart(reply=True),
    "autoscale": lambda c: c.autoscale(3, 1, reply=True),
    "add_consumer": lambda c: c.add_consumer("extra", reply=True),
    "cancel_consumer": lambda c: c.cancel_consumer("celery", reply=True),
    "heartbeat": lambda c: c.heartbeat(reply=True),
    "election": lambda c: c.broadcast("election", {"id": "e1", "topic": "task", "action": None}, reply=True),
    "unknown_command": lambda c: c.broadcast("no_such_command", reply=True),
    "shutdown": lambda c: c.shutdown(reply=True),
}
for _name, _call in CONTROL.items():
    control_case("control_" + _name, f"app.control.{_name}(..., reply=True)", lambda app, call=_call: call(app.control))
control_case(
    "control_enable_events_default_worker",
    "enable_events twice on a worker started without -E",
    lambda app: [app.control.enable_events(reply=True), app.control.enable_events(reply=True)],
    base=[],
)
control_case(
    "control_disable_events_default_worker",
    "disable_events twice on a worker started with -E",
    lambda app: [app.control.disable_events(reply=True), app.control.disable_events(reply=True)],
    base=["-E"],
)
control_case(
    "control_autoscale_enabled",
    "autoscale(3, 1) and pool_grow on a worker started with --autoscale=2,1",
    lambda app: [app.control.autoscale(3, 1, reply=True), app.control.pool_grow(1, reply=True)],
    argv=["--autoscale=2,1"],
)
control_case("control_terminate_active", "terminate of the active task", lambda app: app.control.terminate(ID(1), reply=True), before=busy)


@case("mingle_hello", "second default worker starting beside the first: its hello broadcast and the reply of the first")
def _(ctx):
    w = ctx.worker()
    try:
        ctx.app().control.revoke(ID(9))
        time.sleep(0.7)
        mon = Monitor(ctx.port, keep={"PUBLISH", "LPUSH"})
        w2 = ctx.worker("w2@golden")
        mon.stop()
        try:
            return of_pidbox(mon)
        finally:
            w2.stop()
    finally:
        w.stop()


def event_case(name, words, call, argv=("-E",), wait=2.0, stop_inside=False, heartbeats=0):
    @case("event_" + name, words)
    def run(ctx):
        tap = Tap(ctx.port)
        w = ctx.worker(argv=list(argv))
        try:
            call(ctx.app(task_send_sent_event=True))
            time.sleep(wait)
            if stop_inside:
                w.stop()
            tap.stop()
            kept, beats = [], 0
            for e in tap.entries(b"/0.celeryev"):
                if e["channel"].endswith("worker.heartbeat"):
                    beats += 1
                    if beats > heartbeats:
                        continue
                kept.append(e)
            return kept
        finally:
            w.stop()

    return run


def runs(task, *args, **kw):
    return lambda app: app.tasks[T + task].apply_async(args, task_id=ID(1), **kw)


def terminated(app):
    app.tasks[T + "slow"].apply_async((60,), task_id=ID(1))
    time.sleep(2)
    app.control.revoke(ID(1), terminate=True)


def custom(app):
    with app.events.default_dispatcher() as dispatcher:
        dispatcher.send("task-custom", uuid=ID(1), extra=1)
        dispatcher.send("myapp-thing", blind=True, extra=2)


event_case(
    "worker",
    "worker -E from start to warm shutdown: worker-online, two worker-heartbeat, worker-offline",
    lambda app: None,
    wait=5,
    stop_inside=True,
    heartbeats=2,
)
event_case(
    "task_success",
    "task_send_sent_event=True; add.apply_async((2, 3), {}, task_id=ID) with -E: task-sent and the task-multi batches",
    runs("add", 2, 3),
)
event_case("task_failed", "fail_value.apply_async(('boom',))", runs("fail_value", "boom"))
event_case("task_retried", "retry_me.apply_async((1,)): task-retried and the second task-received with an eta", runs("retry_me", 1))
event_case("task_revoked_expired", "expired task", runs("add", 1, 2, expires=dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)))
event_case("task_revoked_terminated", "running task terminated", terminated, wait=3)
event_case("task_rejected", "Reject(requeue=False)", runs("reject_me"))
event_case(
    "task_eta",
    "add.apply_async((1, 2), countdown=1, expires=60) with kwargs",
    lambda app: app.tasks[T + "echo"].apply_async((1,), {"k": "v"}, task_id=ID(1), countdown=1, expires=60),
    wait=3,
)
event_case("task_solo_pool", "the same success under the solo pool", runs("add", 2, 3), argv=("-E", "-P", "solo"))
event_case("task_threads_pool", "the same success under the threads pool", runs("add", 2, 3), argv=("-E", "-P", "threads", "-c", "2"))
event_case("unregistered", "send_task('no.such.task')", lambda app: app.send_task("no.such.task", task_id=ID(1)))
event_case("custom", "default_dispatcher().send('task-custom', uuid=ID, extra=1), send('myapp-thing', blind=True)", custom)
event_case("worker_without_E", "worker without -E: only worker events, no task events", runs("add", 2, 3), argv=(), stop_inside=True)
event_case(
    "task_lost_worker", "pool child killed (os._exit) while running a task: task-failed with WorkerLostError", runs("suicide"), wait=4
)
