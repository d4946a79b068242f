"""Celery's own canvas, without a broker: builds and applies signatures, runs tasks, and tells what was sent and stored.

One request per line on stdin, one answer per line on stdout, both JSON. The tests of this folder's package start it.
"""

from __future__ import annotations

import base64
import copy
import itertools
import json
import os
import sys
import traceback

os.environ.setdefault("PYTHONWARNINGS", "ignore")

import celery
import kombu.transport.memory
from celery import Celery, chain, chord, group, signature
from celery.app import trace
from celery.backends.base import KeyValueStoreBackend, _create_chord_error_with_cause
from celery.canvas import StampingVisitor, chunks, maybe_signature, xmap, xstarmap
from celery.exceptions import ChordError, Ignore, Retry
from celery.result import GroupResult
from kombu.utils.json import dumps, loads

NAMES = ("t.a", "t.b", "t.c", "t.body", "t.old", "t.new")
effects = []
counter = itertools.count(1)


def fresh():
    return "py%012d" % next(counter)


celery.canvas.uuid = celery.app.base.uuid = celery.app.task.uuid = fresh


class Backend(KeyValueStoreBackend):
    """Remembers in memory and records what is asked of it."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.values = {}

    def get(self, key):
        return self.values.get(key)

    def mget(self, keys):
        return [self.get(key) for key in keys]

    def set(self, key, value):
        self.values[key] = value

    def delete(self, key):
        self.values.pop(key, None)

    def set_chord_size(self, group_id, chord_size):
        effects.append({"size": chord_size, "group": group_id})

    def apply_chord(self, header_result_args, body, **kwargs):
        result = self.app.GroupResult(*header_result_args)
        nested = any(isinstance(r, GroupResult) for r in result.results)
        effects.append({"header": result.as_tuple(), "complex": nested, "group": result.id})

    def add_to_chord(self, chord_id, result):
        effects.append({"added": result.as_tuple(), "group": chord_id})

    def on_chord_part_return(self, request, state, result, **kwargs):
        if request.group and request.id:
            effects.append(
                {
                    "part": request.id,
                    "group": request.group,
                    "index": request.group_index,
                    "state": state,
                    "result": self.encode_result(result, state),
                    "body": request.chord,
                }
            )

    def _store_result(self, task_id, result, state, traceback=None, request=None, **kwargs):
        meta = self._get_result_meta(result=result, state=state, traceback=None, request=request)
        meta["task_id"] = task_id
        meta.pop("date_done")
        effects.append({"stored": meta})
        return super()._store_result(task_id, result, state, traceback, request, **kwargs)


def put(self, queue, message, **kwargs):
    message = json.loads(dumps(message))
    message["body"] = json.loads(base64.b64decode(message["body"]))
    message["properties"].pop("delivery_tag")
    message["headers"].pop("origin", None)
    effects.append({"queue": queue, "message": message})


kombu.transport.memory.Channel._put = put


def old_errback(task_id):
    return task_id


def new_errback(request, exc, tb):
    effects.append({"called": "t.new", "id": request.id, "exc": repr(exc)})


class App:
    apps = {}

    @classmethod
    def of(cls, conf):
        key = json.dumps(conf, sort_keys=True)
        if key not in cls.apps:
            cls.apps[key] = cls(conf)
        app = cls.apps[key]
        app.app.set_current()
        app.app.set_default()
        app.backend.values.clear()
        app.backend._cache.clear()
        return app

    def __init__(self, conf):
        conf = dict(conf)
        known = conf.pop("known", True)
        self.app = app = Celery("reference", broker="memory://", set_as_current=True, strict_typing=False)
        app.conf.update(conf, result_extended=True)
        app._backend = self.backend = Backend(app=app)
        app._local.oid = "reply-to"
        self.outcome = None
        host = self

        def body(self, *args, **kwargs):
            return host.outcome(self, *args, **kwargs)

        for name in (NAMES if known else ()) + ("t.run",):
            if name == "t.old":
                app.task(name=name, shared=False)(old_errback)
            elif name == "t.new":
                app.task(name=name, shared=False)(new_errback)
            else:
                app.task(name=name, bind=True, typing=False, max_retries=None, shared=False)(body)
        app.finalize()
        app.control.revoke = lambda ids, **kwargs: effects.append({"revoke": ids})

    def run(self, message, outcome):
        """The worker's way of running a task."""
        self.outcome = outcome
        headers, properties = message["headers"], message["properties"]
        info = properties["delivery_info"]
        request = dict(headers)
        request.update(
            properties=properties,
            reply_to=properties.get("reply_to"),
            correlation_id=properties.get("correlation_id"),
            hostname="h",
            delivery_info={
                "exchange": info.get("exchange"),
                "routing_key": info.get("routing_key"),
                "priority": properties.get("priority"),
                "redelivered": info.get("redelivered", False),
            },
        )
        args, kwargs, embed = loads(json.dumps(message["body"]))
        name = headers["task"] if headers["task"] in self.app.tasks else "t.run"
        request.update({"args": args, "kwargs": kwargs, "is_eager": False}, **embed or {})
        tracer = trace.build_tracer(name, self.app.tasks[name], app=self.app)
        return tracer(headers["id"], args, kwargs, request)


class Stamps(StampingVisitor):
    def __init__(self, spec):
        self.spec = spec

    def _of(self, name, headers):
        stamps = copy.deepcopy(self.spec.get(name) or {})  # Celery changes lists in it
        if self.spec.get("named") and stamps:
            stamps["stamped_headers"] = list(stamps)
        return stamps

    def on_signature(self, sig, **headers):
        return self._of("signature", headers)

    def on_group_start(self, sig, **headers):
        return self._of("group", headers)

    def on_chain_start(self, sig, **headers):
        return self._of("chain", headers)

    def on_chord_body(self, sig, **headers):
        return self._of("body", headers)

    def on_callback(self, sig, **headers):
        return self._of("callback", headers)

    def on_errback(self, sig, **headers):
        return self._of("errback", headers)


def build(e, app):
    """A signature from an expression."""
    op = e["op"]
    if op == "task":
        return app.signature(e["task"], args=tuple(e.get("args", ())), kwargs=e.get("kwargs") or {}, immutable=e.get("immutable", False))
    if op == "json":
        return signature(json.loads(json.dumps(e["sig"])), app=app)
    if op == "chain":
        return chain(*[build(x, app) for x in e["items"]])
    if op == "group":
        return group(*[build(x, app) for x in e["items"]])
    if op == "chord":
        return chord(build(e["header"], app), build(e["body"], app))
    if op == "or":
        return build(e["a"], app) | build(e["b"], app)
    if op == "map":
        return {"map": xmap, "starmap": xstarmap}[e["kind"]](build(e["task"], app), e["it"])
    if op == "chunks":
        return chunks(build(e["task"], app), e["it"], e["n"])
    on = build(e["on"], app)
    if op == "set":
        on.set(**e["options"])
    elif op == "immutable":
        on.set_immutable(e["value"])
    elif op == "link":
        on.link(build(e["sig"], app))
    elif op == "link_error":
        on.link_error(build(e["sig"], app))
    elif op == "clone":
        on = on.clone(args=tuple(e.get("args", ())))
    elif op == "skew":
        on.skew(start=e["start"], stop=e["stop"], step=e["step"])
    elif op == "freeze":
        on.freeze()
    elif op == "stamp":
        visitor = Stamps(e["visitor"]) if e.get("visitor") is not None else None
        on.stamp(visitor, e.get("append", False), **e.get("headers") or {})
    else:
        raise ValueError(op)
    return on


def tuple_of(result):
    return None if result is None else result.as_tuple()


def op_build(request, app):
    return {"sig": json.loads(dumps(build(request["expr"], app.app)))}


def inside(app, message, do):
    """Runs a function as the task of a message. Its own error is the answer's; what it returns is not a result."""
    answer = {}

    def outcome(task, *args, **kwargs):
        try:
            do(task, answer)
        except (Ignore, Retry):
            raise
        except Exception as exc:
            answer.update(error="%s: %s" % (type(exc).__name__, exc), where=traceback.format_exc()[-1500:])
        raise Ignore()

    app.run(message, outcome)
    return answer


def op_apply(request, app):
    sig = build(request["expr"], app.app)
    call = lambda: sig.apply_async(tuple(request.get("args") or ()), request.get("kwargs") or None, **request.get("options") or {})
    if request.get("parent") is None:
        return {"result": tuple_of(call())}

    def do(task, answer):
        result = call()
        answer["children"] = [r.as_tuple() for r in task.request.children]
        answer["result"] = tuple_of(result)

    return inside(app, request["parent"], do)


def op_success(request, app):
    app.run(request["message"], lambda task, *args, **kwargs: request["value"])
    return {}


def exception(spec):
    return {"ValueError": ValueError, "KeyError": KeyError, "OSError": OSError}[spec["type"]](*spec["args"])


def op_failure(request, app):
    def outcome(task, *args, **kwargs):
        raise exception(request["exc"])

    app.run(request["message"], outcome)
    return {}


def op_retry(request, app):
    return inside(app, request["message"], lambda task, answer: task.retry(exc=ValueError("again"), **request["options"]))


def op_replace(request, app):
    return inside(app, request["message"], lambda task, answer: task.replace(build(request["expr"], app.app)))


def op_add_to_chord(request, app):
    return inside(app, request["message"], lambda task, answer: task.add_to_chord(build(request["expr"], app.app)))


def op_chord_ready(request, app):
    body = maybe_signature(request["body"], app=app.app)
    return inside(app, request["message"], lambda task, answer: body.delay(request["results"]))


def op_chord_failed(request, app):
    cause = exception(request["exc"])
    error = _create_chord_error_with_cause(message="Dependency %s raised %r" % (request["part"], cause), original_exc=cause)
    try:
        raise error
    except ChordError as exc:
        app.backend.chord_error_from_stack(maybe_signature(request["body"], app=app.app), exc)
    return {}


def op_repr(request, app):
    return {"reprs": [repr(value) for value in loads(json.dumps(request["values"]))]}


def main():
    for line in sys.stdin:
        request = json.loads(line)
        effects.clear()
        answer = {}
        try:
            app = App.of(request.get("conf") or {})
            answer = globals()["op_" + request["op"]](request, app)
        except Exception as exc:
            answer = {"error": "%s: %s" % (type(exc).__name__, exc), "where": traceback.format_exc()[-1500:]}
        answer["effects"] = list(effects)
        sys.stdout.write(dumps(answer) + "\n")
        sys.stdout.flush()


print(dumps({"celery": celery.__version__, "kombu": kombu.__version__, "python": sys.version.split()[0]}), flush=True)
main()
