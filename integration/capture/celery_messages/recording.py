"""What is recorded of Redis: keys, commands (MONITOR) and published messages; and worker processes to record."""

from __future__ import annotations

import base64
import json
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import celery
import kombu
import redis

from golden_app import HOST, make_app

HERE = os.path.dirname(os.path.abspath(__file__))
# The task names of golden_app.py.
T = "demo."
QUIET = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
META = "celery-task-meta-*"

SCRUB = []
for _p, _name in (
    (HERE, "/APP"),
    (os.path.dirname(os.path.dirname(celery.__file__)), "/SITE"),
    (os.path.dirname(os.__file__), "/STDLIB"),
    (sys.prefix, "/VENV"),
    (os.getcwd(), "/CWD"),
    (platform.release(), "KERNEL"),
):
    if len(_p) > 1:
        SCRUB.append((_p.encode(), _name.encode()))


BODY = re.compile(rb'("body": ")([A-Za-z0-9+/]+=*)(")')


def _scrub_plain(value):
    for old, new in SCRUB:
        value = value.replace(old, new)
    return value


def _scrub_body(match):
    try:
        raw = base64.b64decode(match.group(2), validate=True)
    except ValueError:
        return match.group(0)
    new = _scrub_plain(raw) if raw[:1] in b"[{" else raw
    return match.group(1) + (match.group(2) if new == raw else base64.b64encode(new)) + match.group(3)


def scrub(value):
    """Replace local paths, also inside base64 JSON bodies. Binary values say how long a text is: there the length stays."""
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        for old, new in SCRUB:
            value = value.replace(old, new.ljust(len(old), b"_")[: len(old)])
        return value
    return _scrub_plain(BODY.sub(_scrub_body, value))


def text_or_b64(value, name="value"):
    value = scrub(value)
    try:
        return {name + "_utf8": value.decode("utf-8")}
    except UnicodeDecodeError:
        return {name + "_b64": base64.b64encode(value).decode()}


def decode_envelope(value):
    """Readable view of a kombu envelope, added as a convenience."""
    try:
        env = json.loads(value)
        if not isinstance(env, dict) or "properties" not in env:
            return None
        body = base64.b64decode(env["body"])
        if env.get("headers", {}).get("compression"):
            body = kombu.compression.decompress(body, env["headers"]["compression"])
        if env["content-type"] == "application/json":
            try:
                json.dumps(json.loads(body), allow_nan=False)
            except ValueError:  # NaN and Infinity are not JSON
                return {"body_text": body.decode()}
            return {"body": json.loads(body)}
        return {"body_b64": base64.b64encode(body).decode()}
    except Exception:
        return None


def entry(value, **fields):
    out = dict(fields)
    out.update(text_or_b64(value))
    view = decode_envelope(value)
    if view is not None:
        out["decoded"] = json.loads(scrub(json.dumps(view).encode()))
    return out


UNESC = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)")
SIMPLE = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b"}


def unescape(arg):
    def sub(m):
        g = m.group(1)
        return bytes([int(g[1:], 16)]) if g[:1] == b"x" and len(g) == 3 else SIMPLE.get(g, g)

    return UNESC.sub(sub, arg)


class Monitor:
    """Raw MONITOR reader (binary safe)."""

    LINE = re.compile(rb"^\+([0-9.]+) \[(\d+) ([^\]]+)\] (.*)$", re.S)
    ARG = re.compile(rb'"((?:\\.|[^"\\])*)"', re.S)

    def __init__(self, port, keep=None, drop=()):
        self.keep, self.drop = keep, set(drop)
        self.lines = []
        self.sock = socket.create_connection((HOST, port))
        self.sock.sendall(b"MONITOR\r\n")
        self.stopped = False
        self.buf = b""
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        time.sleep(0.1)

    def _run(self):
        while not self.stopped:
            try:
                data = self.sock.recv(1 << 16)
            except OSError:
                break
            if not data:
                break
            self.buf += data
            while b"\r\n" in self.buf:
                line, self.buf = self.buf.split(b"\r\n", 1)
                m = self.LINE.match(line)
                if m:
                    self.lines.append((m.group(3), [unescape(a) for a in self.ARG.findall(m.group(4))]))

    def stop(self):
        time.sleep(0.2)
        self.stopped = True
        self.sock.close()
        self.thread.join(2)
        return self

    def entries(self):
        conns = {}
        out = []
        for addr, args in self.lines:
            name = args[0].upper().decode()
            if name in self.drop or (self.keep and name not in self.keep):
                continue
            e = {
                "cmd": name,
                "type": "command",
                "client": "lua" if addr == b"lua" else "c%d" % conns.setdefault(addr, len(conns) + 1),
                "args": [text_or_b64(a, "arg") for a in args[1:]],
            }
            for a in args[1:]:
                view = decode_envelope(a)
                if view is not None:
                    e["decoded"] = json.loads(scrub(json.dumps(view).encode()))
            out.append(e)
        return out


class Tap:
    """Records every pub/sub message."""

    def __init__(self, port):
        self.messages = []
        self.ps = redis.Redis(HOST, port).pubsub(ignore_subscribe_messages=True)
        self.ps.psubscribe("*")
        self.stopped = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        time.sleep(0.2)

    def _run(self):
        while not self.stopped:
            try:
                m = self.ps.get_message(timeout=0.2)
            except Exception:
                break
            if m and m["type"] == "pmessage":
                self.messages.append((m["channel"], m["data"]))

    def stop(self):
        time.sleep(0.3)
        self.stopped = True
        self.thread.join(2)
        self.ps.close()
        return self

    def entries(self, prefix=b""):
        return [entry(data, channel=scrub(ch).decode(), type="pubsub") for ch, data in self.messages if ch.startswith(prefix)]


class Worker:
    def __init__(self, ctx, name="w1@golden", argv=(), **conf):
        spec_extra = conf.pop("spec", {})
        argv = ["-n", name, "-l", "WARNING"] + list(argv)
        if not any(a.startswith("-P") or a.startswith("--pool") for a in argv):
            argv += ["-P", "prefork", "-c", "1"]
        spec = json.dumps(dict(spec_extra, conf=conf, argv=argv))
        env = dict(os.environ, PYTHONHASHSEED="0", C_FORCE_ROOT="1")
        self.log = []
        self.proc = subprocess.Popen(
            [sys.executable, os.path.join(HERE, "capture.py"), "--port", str(ctx.port), "--worker", spec],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            start_new_session=True,
        )
        self.ready = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()
        if not self.ready.wait(40):
            self.stop(signal.SIGKILL)
            raise RuntimeError("worker not ready: " + "".join(self.log)[-2000:])
        time.sleep(0.5)

    def _read(self):
        for line in self.proc.stdout:
            line = line.decode("utf-8", "replace")
            self.log.append(line)
            if "CAPTURE-READY" in line:
                self.ready.set()

    def kill9(self):
        # the worker is its own process group leader
        os.killpg(self.proc.pid, signal.SIGKILL)
        self.proc.wait(10)

    def stop(self, sig=signal.SIGTERM, timeout=20):
        if self.proc.poll() is None:
            os.kill(self.proc.pid, sig)
            try:
                self.proc.wait(timeout)
            except subprocess.TimeoutExpired:
                os.killpg(self.proc.pid, signal.SIGKILL)
                self.proc.wait(10)


CASES = []


def case(name, words):
    def deco(fun):
        CASES.append((name, words, fun))
        return fun

    return deco


class Ctx:
    def __init__(self, port, out):
        self.port, self.out = port, out
        self.r = redis.Redis(HOST, port)
        self.versions = {
            "celery": celery.__version__,
            "kombu": kombu.__version__,
            "redis-py": redis.__version__,
            "python": platform.python_version(),
            "redis-server": self.r.info("server")["redis_version"],
        }

    def app(self, **conf):
        return make_app(self.port, **conf)

    def worker(self, *a, **kw):
        return Worker(self, *a, **kw)

    def dump(self, pattern="*", skip=()):
        out = []
        for key in sorted(self.r.keys(pattern)):
            if any(key.startswith(s) for s in skip):
                continue
            t = self.r.type(key).decode()
            k = text_or_b64(key, "key")
            k = {"key": k["key_utf8"]} if "key_utf8" in k else k
            ttl = self.r.pttl(key)
            base = dict(k, type=t)
            if ttl >= 0:
                base["ttl_seconds"] = round(ttl / 1000)
            if t == "string":
                out.append(entry(self.r.get(key), **base))
            elif t == "list":
                for i, v in enumerate(self.r.lrange(key, 0, -1)):
                    out.append(entry(v, **dict(base, index=i)))
            elif t == "set":
                for v in sorted(self.r.smembers(key)):
                    out.append(entry(v, **base))
            elif t == "zset":
                for v, s in self.r.zrange(key, 0, -1, withscores=True):
                    out.append(entry(v, **dict(base, score=s)))
            elif t == "hash":
                for f, v in sorted(self.r.hgetall(key).items()):
                    out.append(entry(v, **dict(base, field=f.decode())))
        return out

    def save(self, name, words, entries, **extra):
        doc = {"case": name, "versions": self.versions, "python": words}
        doc.update(extra)
        doc["redis"] = entries
        with open(os.path.join(self.out, name + ".json"), "w") as fh:
            json.dump(doc, fh, indent=1, ensure_ascii=True, allow_nan=False)
            fh.write("\n")

    def wait(self, fun, timeout=15, what="condition"):
        end = time.time() + timeout
        while time.time() < end:
            if fun():
                return
            time.sleep(0.05)
        raise RuntimeError("timeout waiting for " + what)

    def wait_meta(self, tid, status, timeout=15):
        def ok():
            v = self.r.get("celery-task-meta-" + tid)
            return v and status in v.decode("latin-1")

        self.wait(ok, timeout, "meta %s of %s" % (status, tid))


def ID(n):
    return "00000000-0000-4000-8000-%012d" % n


TASKS_ONLY = (b"_kombu",)


def publish_case(name, words, call, conf=None, skip=TASKS_ONLY):
    @case(name, words)
    def run(ctx):
        app = ctx.app(**(conf or {}))
        call(app)
        return ctx.dump(skip=skip)

    return run
