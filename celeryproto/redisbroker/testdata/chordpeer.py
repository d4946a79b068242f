"""Real Celery on the tests' Redis: starts chords, returns parts to them, and can be a worker.

    python -c <this> URL SETTINGS          one request per line on stdin, one answer per line on stdout, both JSON
    python -c <this> URL SETTINGS worker   a worker with one thread, until SIGTERM
"""

from __future__ import annotations

import json
import sys

from celery import Celery, chain, chord, group, signals
from celery.app.task import Context
from celery.result import GroupResult

app = Celery("peer", broker=sys.argv[1], backend=sys.argv[1], set_as_current=True)
app.conf.update(json.loads(sys.argv[2]) or {}, task_default_queue="py", worker_hijack_root_logger=False, worker_redirect_stdouts=False, broker_connection_retry_on_startup=True)


@app.task(name="py.echo")
def echo(value):
    return value


@app.task(name="py.fail")
def fail(text):
    raise ValueError(text)


@app.task(name="py.body")
def body(values):
    return {"values": values}


def remote(value, queue):
    """A header task that runs elsewhere."""
    return app.signature("go.echo", args=(value,), queue=queue)


def op_chord(spec):
    header = [remote(v, spec["queue"]) if where == "go" else echo.s(v) for where, v in spec["header"]]
    if spec.get("fail"):
        header.append(fail.s("x"))
    if spec.get("complex"):
        header.append(chain(echo.s(1), group(echo.s(), echo.s())))
    result = chord(header)(body.s().set(queue=spec.get("body_queue")))
    parent = result.parent
    return {"body": result.id, "group": parent.id, "tasks": [r.id for r in parent.results]}


def op_part(spec):
    """What a worker does after a task of a header."""
    request = Context(id=spec["task"], group=spec["group"], group_index=spec["index"], chord=spec["body"], errbacks=None)
    result = spec["result"] if spec["state"] == "SUCCESS" else ValueError(spec["result"])
    app.backend.on_chord_part_return(request, spec["state"], result)
    return {}


def op_get(spec):
    result = app.AsyncResult(spec["id"])
    value = result.get(timeout=20, propagate=False)
    return {"value": repr(value) if isinstance(value, Exception) else value}


def op_group(spec):
    """The members of a group that was saved."""
    saved = GroupResult.restore(spec["id"], app=app)
    return {"tree": saved and saved.as_tuple()}


def op_save(spec):
    result = GroupResult(spec["id"], [app.AsyncResult(i) for i in spec["members"]])
    result.save()
    return {}


def main():
    print("{}", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = globals()["op_" + request["op"]](request)
        except Exception as exc:
            answer = {"error": "%s: %s" % (type(exc).__name__, exc)}
        print(json.dumps(answer), flush=True)


@signals.worker_ready.connect
def ready(**_):
    print("{}", flush=True)


if sys.argv[3:] == ["worker"]:
    app.worker_main(["--quiet", "worker", "-P", "solo", "-l", "ERROR", "--without-gossip", "--without-mingle", "--without-heartbeat", "-Q", "py"])
else:
    main()
