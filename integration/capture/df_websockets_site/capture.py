"""Records df_websockets itself.

    CAP_REDIS_PORT=… CAP_DB=0 CAP_FOLDER=<scratch folder> python capture.py <free TCP port> <output folder>

Starts a daphne and a Celery worker of its own (both are stopped at the end) and flushes four Redis databases from CAP_DB on.
"""

import base64
import datetime
import decimal
import enum
import http.client
import json
import os
import subprocess
import sys
import time
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = sys.argv[2] if len(sys.argv) > 2 else ""
sys.path.append(os.path.dirname(HERE))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo_settings")
os.environ["PYTHONPATH"] = HERE + os.pathsep + os.environ.get("PYTHONPATH", "")
os.environ.setdefault("CAP_LOG", "ERROR")
DAPHNE_PORT = int(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1] != "--topics" else 8112

import django  # noqa: E402

django.setup()

import redis  # noqa: E402
from df_websockets import tasks, ws_settings  # noqa: E402
from df_websockets.middleware import WebsocketMiddleware  # noqa: E402
from df_websockets.tasks import BROADCAST, SESSION, USER, WINDOW, trigger, trigger_signal  # noqa: E402
from df_websockets.topics import serialize_topic  # noqa: E402
from df_websockets.utils import valid_topic_name  # noqa: E402
from df_websockets.window_info import Session, WindowInfo  # noqa: E402
from django.contrib.auth.models import AnonymousUser, Group, Permission, User  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.utils.functional import SimpleLazyObject  # noqa: E402

from fixturelib import b64, dump_redis, package_versions, write_case  # noqa: E402

PORT, DB = int(os.environ["CAP_REDIS_PORT"]), int(os.environ["CAP_DB"])
R = [redis.Redis(port=PORT, db=DB + i) for i in range(4)]
VERSIONS = package_versions("df_websockets", "django", "channels", "channels_redis", "celery", "kombu", "redis", "daphne")
WK = "abcdefghijklmnopqrstuvwxyz012345"


class Color(enum.Enum):
    RED = "r"


class Plain:
    pass


def topic_objects():
    return [
        ("BROADCAST", BROADCAST),
        ("WINDOW", WINDOW),
        ("USER", USER),
        ("SESSION constant", SESSION),
        ("Session('abc')", Session("abc")),
        ("str 'news'", "news"),
        ("str ''", ""),
        ("str 'é'", "é"),
        ("int 1", 1),
        ("int 0", 0),
        ("int -1", -1),
        ("int 2**61-1", 2**61 - 1),
        ("int 2**61", 2**61),
        ("int -5", -5),
        ("bool True", True),
        ("float 1.0", 1.0),
        ("float 1.5", 1.5),
        ("float 0.1", 0.1),
        ("Decimal('1.1')", decimal.Decimal("1.1")),
        ("UUID(int=5)", uuid.UUID(int=5)),
        ("None", None),
        ("bytes b'a'", b"a"),
        ("tuple (1, 2)", (1, 2)),
        ("tuple ('a',)", ("a",)),
        ("frozenset({1})", frozenset({1})),
        ("date", datetime.date(2026, 1, 2)),
        ("Enum member", Color.RED),
        ("class Plain", Plain),
        ("class int", int),
        ("Plain()", Plain()),
        ("User pk=1 (saved)", User(pk=1)),
        ("User unsaved", User()),
        ("User pk=0", User(pk=0)),
        ("User pk='x-y'", User(pk="x-y")),
        ("Group pk=42", Group(pk=42)),
        ("Permission pk=7", Permission(pk=7)),
        ("lazy User pk=1", SimpleLazyObject(lambda: User(pk=1))),
        ("User class", User),
        ("AnonymousUser()", AnonymousUser()),
        ("list [1]", [1]),
    ]


def serialize_all():
    wi = WindowInfo.from_dict({"window_key": WK, "user_pk": 1, "user_set": True, "username": "alice"})
    out = []
    for label, obj in topic_objects():
        try:
            out.append([label, serialize_topic(wi, obj)])
        except Exception as e:
            out.append([label, "!%s: %s" % (type(e).__name__, e)])
    return out


if len(sys.argv) > 1 and sys.argv[1] == "--topics":
    print(json.dumps(serialize_all()))
    sys.exit(0)


def flush():
    for c in R:
        c.flushdb()


def topics():
    runs = []
    for seed in ("0", "1", "2"):
        env = dict(os.environ, PYTHONHASHSEED=seed)
        runs.append(
            json.loads(subprocess.run([sys.executable, __file__, "--topics"], env=env, capture_output=True, text=True, check=True).stdout)
        )
    rows = []
    for a, b, c in zip(*runs, strict=True):
        topic = a[1]
        same = a == b == c
        row = {"object": a[0], "topic": topic if same else None, "same_in_every_process": same}
        if not same:
            row["examples"] = [a[1], b[1], c[1]]
        elif not topic.startswith("!"):
            row["group"] = valid_topic_name(topic)
            row["group_before_1_0"] = valid_topic_name("ws" + topic)
        rows.append(row)
    anon = WindowInfo.from_dict({"window_key": WK})
    extra = [
        {"object": "USER, anonymous", "topic": serialize_topic(anon, USER)},
        {"object": "WINDOW, no key", "topic": serialize_topic(WindowInfo(), WINDOW)},
        {"object": "USER, window_info None", "topic": serialize_topic(None, USER)},
        {"object": "WINDOW, window_info None", "topic": serialize_topic(None, WINDOW)},
    ]
    for r in extra:
        if r["topic"]:
            r["group"] = valid_topic_name(r["topic"])
    write_case(
        OUT,
        "topics",
        VERSIONS,
        {"window_key": WK, "user_pk": 1, "AUTH_USER_MODEL": "auth.User"},
        topics=rows,
        special=extra,
        note="group = lower-case hex sha256 of the UTF-8 topic; strings use sha224 inside the topic",
    )


def http_request(cookies=None, user=None, session=None, **meta):
    r = HttpRequest()
    r.method = "GET"
    r.path_info = "/page/"
    r.META = {"SERVER_NAME": "example.test", "SERVER_PORT": "80", "HTTP_USER_AGENT": "demo-agent/1.0"}
    r.META.update(meta)
    r.COOKIES = cookies or {}
    if user is not None:
        r.user = user
    if session is not None:
        r.session = session
    return r


def window_infos():
    from importlib import import_module

    from django.conf import settings

    store = import_module(settings.SESSION_ENGINE).SessionStore
    alice, bob, root = (User.objects.get(username=n) for n in ("alice", "bob", "root"))
    rows = []

    def add(label, wi):
        rows.append({"state": label, "window_info": wi.to_dict(), "keys_in_order": list(wi.to_dict())})

    def req(**kw):
        r = http_request(**kw)
        WebsocketMiddleware(lambda x: HttpResponse()).process_request(r)
        r.window_key = WK
        return r

    add("blank WindowInfo()", WindowInfo())
    add("from_request(None)", WindowInfo.from_request(None))
    add("anonymous, no session middleware", WindowInfo.from_request(req(user=AnonymousUser())))
    add(
        "anonymous, empty session, Accept-Language de",
        WindowInfo.from_request(req(user=AnonymousUser(), session=store(), HTTP_ACCEPT_LANGUAGE="de")),
    )
    add("anonymous, no user attribute", WindowInfo.from_request(req(session=store())))
    add("anonymous, csrf cookie", WindowInfo.from_request(req(cookies={"csrftoken": "X" * 32}, user=AnonymousUser(), session=store())))
    add("user", WindowInfo.from_request(req(user=alice, session=store(), cookies={"csrftoken": "X" * 32})))
    add("staff", WindowInfo.from_request(req(user=bob, session=store(), cookies={"csrftoken": "X" * 32})))
    add("superuser", WindowInfo.from_request(req(user=root, session=store(), cookies={"csrftoken": "X" * 32})))
    add("inactive user object", WindowInfo.from_request(req(user=User(pk=9, username="gone", is_active=False), session=store())))
    w = WindowInfo.from_request(req(user=bob, session=store()))
    w.has_perm("auth.change_user")
    add("staff, permissions already looked up", w)
    add("no user agent", WindowInfo.from_request(req(user=AnonymousUser(), session=store(), HTTP_USER_AGENT="")))
    add("language cookie en", WindowInfo.from_request(req(user=AnonymousUser(), session=store(), cookies={"django_language": "en"})))
    uu = User(pk=1, username="u")
    uu.pk = uuid.UUID(int=5)
    add_uuid = WindowInfo.from_request(req(user=uu, session=store())).to_dict()
    from kombu.utils.json import dumps as kdumps

    rows.append({"state": "user whose primary key is a UUID (as Celery JSON)", "window_info": json.loads(kdumps(add_uuid))})
    attrs = {}
    for label, d in (
        ("anonymous", {}),
        ("user", {"user_pk": 1, "user_set": True, "username": "alice", "is_staff": False, "is_superuser": False, "is_active": True}),
        ("user_pk only", {"user_pk": 2}),
        ("perms null", {"user_pk": 1, "user_set": True, "perms": None}),
        ("perms list", {"user_pk": 1, "user_set": True, "perms": ["a.b"]}),
    ):
        x = WindowInfo.from_dict(d)
        attrs[label] = {
            "from_dict": d,
            "attributes": {k: (sorted(v) if isinstance(v, set) else v) for k, v in sorted(vars(x).items())},
            "to_dict": x.to_dict(),
        }
    write_case(
        OUT,
        "window_info",
        VERSIONS,
        {"WINDOW_INFO_MIDDLEWARES": ws_settings.WINDOW_INFO_MIDDLEWARES, "LANGUAGE_CODE": "fr"},
        states=rows,
        read_back_in_the_worker=attrs,
    )


def json_types():
    from django.utils.translation import gettext_lazy
    from kombu.utils import json as kj

    utc = datetime.timezone.utc
    values = {
        "datetime naive": datetime.datetime(2026, 1, 2, 3, 4, 5, 678901),
        "datetime utc": datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=utc),
        "datetime +02:00": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
        "date": datetime.date(2026, 1, 2),
        "time": datetime.time(3, 4, 5, 678901),
        "timedelta": datetime.timedelta(days=1, seconds=2, microseconds=3),
        "Decimal": decimal.Decimal("1.10"),
        "UUID": uuid.UUID(int=5),
        "lazy translation": gettext_lazy("Yes"),
        "set": {1},
        "bytes utf-8": b"ab",
        "bytes not utf-8": b"ab\xff",
        "Enum": Color.RED,
        "dict with int keys": {1: "a"},
        "tuple": (1, 2),
        "nan": float("nan"),
        "inf": float("inf"),
        "2**70": 2**70,
        "non ascii": "é",
        "html": "</script>&'\"",
        "lone surrogate": "\ud800",
    }
    rows = []
    for label, value in values.items():
        row = {"type": label}
        try:
            row["browser"] = json.dumps({"v": value}, cls=tasks._signal_encoder)
        except Exception as e:
            row["browser_error"] = "%s: %s" % (type(e).__name__, e)
        try:
            row["celery"] = kj.dumps({"v": value})
            row["worker_sees"] = ascii(kj.loads(row["celery"])["v"])
        except Exception as e:
            row["celery_error"] = "%s: %s" % (type(e).__name__, str(e).split(" at 0x")[0])
        rows.append(row)
    write_case(
        OUT,
        "json_types",
        VERSIONS,
        {"WEBSOCKET_SIGNAL_ENCODER": ws_settings.WEBSOCKET_SIGNAL_ENCODER, "celery": "task serializer json (kombu)"},
        types=rows,
    )


# ------------------------------------------------------------------ end to end
class Browser:
    def __init__(self, ua="demo-agent/1.0"):
        self.jar, self.ua = {}, ua

    def headers(self, **extra):
        h = {"User-Agent": self.ua, "Accept-Language": "de,en;q=0.5"}
        if self.jar:
            h["Cookie"] = "; ".join("%s=%s" % kv for kv in self.jar.items())
        h.update(extra)
        return h

    def get(self, path):
        c = http.client.HTTPConnection("127.0.0.1", DAPHNE_PORT, timeout=20)
        c.request("GET", path, headers=self.headers())
        r = c.getresponse()
        body = r.read().decode()
        for k, v in r.getheaders():
            if k.lower() == "set-cookie":
                name, _, rest = v.partition("=")
                self.jar[name] = rest.split(";")[0]
        return r.status, body

    def ws(self):
        from websockets.sync.client import connect

        h = self.headers()
        ua = h.pop("User-Agent")
        return connect("ws://127.0.0.1:%d/ws/" % DAPHNE_PORT, additional_headers=h, user_agent_header=ua, compression=None)


def receive(ws, seconds):
    try:
        return ws.recv(timeout=seconds)
    except TimeoutError:
        return None


def read(path):
    with open(path) as fd:
        return fd.read()


def start(args, ready, log):
    with open(log, "w") as fd:
        p = subprocess.Popen(args, cwd=HERE, stdout=fd, stderr=subprocess.STDOUT, env=dict(os.environ, CAP_LOG="INFO"))
    for _ in range(150):
        time.sleep(0.2)
        if ready(log):
            return p
    p.terminate()
    raise SystemExit("did not start: " + read(log)[-2000:])


def port_open(_):
    import socket

    try:
        socket.create_connection(("127.0.0.1", DAPHNE_PORT), 0.2).close()
        return True
    except OSError:
        return False


def broker_rows():
    return dump_redis(R[2])


def end_to_end():
    bindir = os.path.dirname(sys.executable)
    folder = os.environ["CAP_FOLDER"]
    flush()
    daphne = start(
        [os.path.join(bindir, "daphne"), "-b", "127.0.0.1", "-p", str(DAPHNE_PORT), "df_websockets.routing:application"],
        port_open,
        os.path.join(folder, "daphne.log"),
    )
    worker = None
    try:
        for who in ("anonymous", "alice", "bob", "root"):
            b = Browser()
            if who != "anonymous":
                b.get("/login/?u=%s&p=pw-%s" % (who, who))
            b.get("/page/?topic=news")
            with b.ws() as w:
                time.sleep(0.3)
                groups = dump_redis(R[1], "asgi:group:*")
                for label, frame in (
                    ("plain", {"signal": "demo.rule.everyone", "opts": {"a": "é"}}),
                    ("countdown", {"signal": "demo.rule.everyone", "opts": {"a": 1}, "countdown": 30}),
                    ("expires", {"signal": "demo.rule.everyone", "opts": {"a": 1}, "expires": 60}),
                    ("two_queues", {"signal": "demo.two_queues", "opts": {"value": 1}}),
                    ("dynamic_queue", {"signal": "demo.dynamic", "opts": {"value": 3}}),
                ):
                    if who != "alice" and label != "plain":
                        continue
                    R[2].flushdb()
                    text = json.dumps(frame)
                    w.send(text)
                    time.sleep(0.4)
                    rows = broker_rows()
                    decoded = []
                    for row in rows:
                        if row["type"] == "list":
                            for v in row["values_b64"]:
                                m = json.loads(base64.b64decode(v))
                                decoded.append(
                                    {
                                        "queue": row["key"],
                                        "headers": m["headers"],
                                        "properties": m["properties"],
                                        "content-type": m["content-type"],
                                        "content-encoding": m["content-encoding"],
                                        "body": json.loads(base64.b64decode(m["body"])),
                                    }
                                )
                    write_case(
                        OUT,
                        "celery_message_%s_%s" % (who, label),
                        VERSIONS,
                        {"WEBSOCKET_WORKERS": "celery", "CELERY_TASK_SERIALIZER": "json"},
                        rows,
                        captured_at=time.time(),
                        input={"frame_from_browser": text, "request_headers": b.headers(), "user": who},
                        decoded=decoded,
                        groups_of_the_socket=groups if label == "plain" else None,
                    )
        # frame table: what each frame does
        b = Browser()
        b.get("/page/")
        frames = []
        with b.ws() as w:
            for text in (
                "--heartbeat--",
                "--heartbeat-- ",
                "",
                "hello",
                "[]",
                '["signal"]',
                "5",
                "null",
                '"signal"',
                "{}",
                '{"signal":"demo.rule.everyone"}',
                '{"signal":"demo.rule.everyone","opts":null}',
                '{"signal":"demo.rule.everyone","opts":[1]}',
                '{"signal":"demo.rule.everyone","opts":"x"}',
                '{"signal":"unknown.signal","opts":{}}',
                '{"signal":5,"opts":{}}',
                '{"signal":["a"],"opts":{}}',
                '{"signal":"demo.rule.everyone","opts":{},"countdown":"5"}',
                '{"signal":"demo.rule.everyone","opts":{},"countdown":1.9}',
                '{"signal":"demo.rule.everyone","opts":{},"countdown":0}',
                '{"signal":"demo.rule.everyone","opts":{},"countdown":-5}',
                '{"signal":"demo.rule.everyone","opts":{},"countdown":null}',
                '{"signal":"demo.rule.everyone","opts":{},"countdown":true}',
                '{"signal":"demo.rule.everyone","opts":{},"eta":1800000000}',
                '{"signal":"demo.rule.everyone","opts":{},"eta":"2027-01-01T00:00:00"}',
                '{"signal":"demo.rule.everyone","opts":{},"expires":60}',
                '{"signal":"demo.any","opts":{"x":NaN}}',
                '{"signal":"demo.any","opts":{"x":"\\ud800"}}',
                '{"signal":"demo.any","opts":{"x":123456789012345678901234567890}}',
                '{"signal":"demo.rule.everyone","opts":{},"signal":"demo.echo"}',
                ' {"signal" : "demo.rule.everyone" , "opts":{} } ',
                '{"signal":"demo.rule.server_side","opts":{}}',
                b'{"signal":"demo.rule.everyone","opts":{}}',
            ):
                R[2].flushdb()
                w.send(text)
                reply = receive(w, 0.3)
                sent = []
                for key in sorted(R[2].keys("*")):
                    if R[2].type(key) == b"list":
                        for v in R[2].lrange(key, 0, -1):
                            m = json.loads(v)
                            sent.append(
                                {
                                    "queue": key.decode(),
                                    "args_without_window_info": [
                                        x for i, x in enumerate(json.loads(base64.b64decode(m["body"]))[0]) if i != 1
                                    ],
                                    "eta_set": m["headers"]["eta"] is not None,
                                    "expires_set": m["headers"]["expires"] is not None,
                                }
                            )
                frames.append(
                    {
                        "frame": text if isinstance(text, str) else None,
                        "binary_frame_b64": b64(text) if isinstance(text, bytes) else None,
                        "reply": reply,
                        "tasks": json.loads(json.dumps(sent).replace("NaN", '"NaN"')),
                        "socket_stays_open": True,
                    }
                )
        write_case(OUT, "frames_from_browser", VERSIONS, {"WEBSOCKET_WORKERS": "celery"}, frames=frames)
        # frames to the browser, through a real worker
        R[2].flushdb()
        worker = start(
            [os.path.join(bindir, "python"), "manage.py", "worker", "-Q", "celery,slow", "-c", "1", "--pool", "solo", "-l", "INFO"],
            lambda log: "ready." in read(log),
            os.path.join(folder, "worker.log"),
        )
        R[2].ltrim("celery", 1, 0)
        b = Browser()
        b.get("/login/?u=alice&p=pw-alice")
        key = json.loads(b.get("/page/?topic=news")[1])["window_key"]
        log = []
        with b.ws() as w:
            time.sleep(0.3)
            for label, action in (
                (
                    "browser calls demo.echo, the worker answers to WINDOW",
                    lambda: w.send('{"signal": "demo.echo", "opts": {"value": "é<b>"}}'),
                ),
                (
                    "python triggers to three topics of the same window",
                    lambda: trigger(
                        WindowInfo.from_dict({"window_key": key, "user_pk": 1, "user_set": True}),
                        "demo.js",
                        to=[WINDOW, USER, "news"],
                        value=datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=datetime.timezone.utc),
                    ),
                ),
                ("python triggers html.content", lambda: trigger(None, "html.content", to=[BROADCAST], selector="#a", content="<b>x</b>")),
                ("python triggers to a window that does not exist", lambda: trigger(None, "demo.js", to=[WINDOW])),
                (
                    "python triggers to WINDOW with countdown 1 (bug: never sent)",
                    lambda: trigger_signal(WindowInfo.from_dict({"window_key": key}), "demo.js", to=[WINDOW], countdown=1),
                ),
            ):
                action()
                got = []
                while True:
                    m = receive(w, 2.5 if "countdown" in label else 1.5)
                    if m is None:
                        break
                    got.append(m)
                log.append({"action": label, "frames": got})
        write_case(OUT, "frames_to_browser", VERSIONS, {"layer": "core"}, log=log)
    finally:
        time.sleep(1)  # a SIGTERM during a disconnect can hang daphne for ever
        for process in (daphne, worker):
            if process:
                process.terminate()
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        flush()


def setup():
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    for name, staff, root in (("alice", False, False), ("bob", True, False), ("root", True, True)):
        u, created = User.objects.get_or_create(username=name, defaults={"is_staff": staff, "is_superuser": root})
        if created:
            u.set_password("pw-" + name)
            u.save()
    User.objects.get(username="bob").user_permissions.add(Permission.objects.get(codename="change_user"))


if __name__ == "__main__":
    setup()
    topics()
    window_infos()
    json_types()
    end_to_end()
    print(len([f for f in os.listdir(OUT) if f.endswith(".json")]), "files")
