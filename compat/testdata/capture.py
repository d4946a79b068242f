"""What real Celery makes of settings and routes, as JSON for the tests of this folder's package.

    python capture.py settings            the settings of an application without any, and of one that changed everything
    python capture.py routes [SEED COUNT] where tasks go: by rules written here, or by random ones

The settings are exported by the Django app dfws of this repository. The recorded files are made with Celery 5.7.0 and kombu 5.7.0.
"""

from __future__ import annotations

import json
import random
import re
import ssl
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python-shim" / "src"))

from celery import Celery
from celery.app.amqp import task_message
from kombu import Exchange, Queue, common
from kombu.common import Broadcast
from kombu.entity import binding

from dfws import celery_settings

Case = tuple[dict[str, Any], list[tuple[str, dict[str, Any]]]]


# So that a Broadcast has the same name in each recording.
common.uuid = lambda: "00000000-1111-2222-3333-444444444444"


def application(**settings: Any) -> Celery:
    """Make an application that nobody else sees."""
    app = Celery("capture", set_as_current=False)
    app.conf.update({"broker_url": "redis://h/0", **settings})
    return app


# --- settings --------------------------------------------------------------------------------------------------------


def settings() -> dict[str, Any]:
    return {"default": celery_settings.export(application()), "changed": celery_settings.export(application(**changed()))}


def changed() -> dict[str, Any]:
    """Values that differ from the default, in the types that sites write."""
    return {
        "broker_url": ["redis://:pw@a/1", "redis://b/2"],
        "broker_transport_options": {"visibility_timeout": timedelta(hours=2), "priority_steps": (0, 5), "sep": ":", "errback": print},
        "broker_use_ssl": {"ssl_cert_reqs": "CERT_REQUIRED", "ssl_ca_certs": "/ca.pem"},
        "broker_connection_timeout": 2.5,
        "broker_connection_retry": False,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_channel_error_retry": True,
        "broker_failover_strategy": "shuffle",
        "broker_pool_limit": 0,
        "result_backend": "sentinel://s1:26379/3;sentinel://s2:26379/3",
        "result_backend_transport_options": {"master_name": "m", "sentinel_kwargs": {"password": "pw"}},
        "result_expires": None,
        "result_failure_expires": timedelta(days=7),
        "result_chord_expires": 0,
        "result_chord_join_timeout": 10,
        "result_chord_retry_interval": 0.5,
        "result_extended": True,
        "result_serializer": "msgpack",
        "result_accept_content": ("json", "msgpack"),
        "result_compression": "zlib",
        "result_backend_always_retry": True,
        "result_backend_max_retries": 5,
        "result_backend_base_sleep_between_retries_ms": 20,
        "result_backend_max_sleep_between_retries_ms": 500,
        "redis_password": "p/w",
        "redis_backend_use_ssl": {"ssl_cert_reqs": ssl.CERT_OPTIONAL, "ssl_check_hostname": False},
        "redis_socket_timeout": None,
        "redis_socket_connect_timeout": "3",
        "redis_socket_keepalive": True,
        "redis_retry_on_timeout": True,
        "redis_max_connections": 20,
        "redis_client_name": "site",
        "redis_backend_health_check_interval": 25,
        "task_default_queue": "main",
        "task_default_exchange": "tasks",
        "task_default_exchange_type": "topic",
        "task_default_routing_key": "task.default",
        "task_default_priority": 3,
        "task_default_delivery_mode": "transient",
        "task_queues": (
            Queue("main", routing_key="task.#"),
            Queue("video", Exchange("media", "topic"), routing_key="video.*", queue_arguments={"x-expires": 5000}, expires=2.5),
            Queue("short", queue_arguments={"x-expires": 60_000}, auto_delete=True, durable=False),
            Queue("wide", bindings=[binding(Exchange("media", "topic"), "audio.#"), binding(Exchange("news", "fanout"))]),
            Broadcast("announce"),
            Broadcast("fixed", queue="fixed-queue"),
        ),
        "task_create_missing_queues": False,
        "task_create_missing_queue_exchange_type": "topic",
        "task_queue_max_priority": 9,
        "task_routes": [{"a.*": "video", re.compile(r"b\.\d+"): {"queue": "short", "priority": 7}}, "site.routing.Router", print],
        "task_annotations": [{"a.b": {"rate_limit": "5/m", "on_failure": print}, "*": {"time_limit": 3}}, "site.annotations.All"],
        "task_inherit_parent_priority": True,
        "task_protocol": 1,
        "task_serializer": "yaml",
        "task_compression": "bzip2",
        "accept_content": {"application/json"},
        "task_acks_late": True,
        "task_acks_on_failure_or_timeout": False,
        "task_acks_on_failure": True,
        "task_acks_on_timeout": False,
        "task_reject_on_worker_lost": True,
        "task_retry_on_worker_lost": True,
        "task_default_rate_limit": 2.5,
        "task_time_limit": timedelta(minutes=1),
        "task_soft_time_limit": 30.5,
        "task_track_started": True,
        "task_ignore_result": True,
        "task_store_errors_even_if_ignored": True,
        "task_send_sent_event": True,
        "task_publish_retry": False,
        "task_publish_retry_policy": {"max_retries": None, "interval_start": 0.1},
        "task_repr_maxlevels": 5,
        "task_allow_error_cb_on_chord_header": True,
        "timezone": "Europe/Paris",
        "enable_utc": False,
        "worker_concurrency": "Auto",
        "worker_prefetch_multiplier": 1,
        "worker_eta_task_limit": 100,
        "worker_enable_prefetch_count_reduction": False,
        "worker_disable_prefetch": True,
        "worker_direct": True,
        "worker_send_task_events": True,
        "worker_enable_remote_control": False,
        "worker_disable_rate_limits": True,
        "worker_cancel_long_running_tasks_on_connection_loss": True,
        "worker_soft_shutdown_timeout": 12.0,
        "worker_enable_soft_shutdown_on_idle": True,
        "worker_deduplicate_successful_tasks": True,
        "worker_pool_restarts": True,
        "control_exchange": "control",
        "control_queue_ttl": None,
        "control_queue_expires": 20,
        "control_queue_exclusive": False,
        "control_queue_durable": True,
        "event_exchange": "ev",
        "event_queue_ttl": 6,
        "event_queue_expires": None,
        "event_queue_prefix": "evq",
        "event_queue_exclusive": False,
        "event_queue_durable": True,
        "event_serializer": "yaml",
    }


# --- routes ----------------------------------------------------------------------------------------------------------


class Producer:
    """Takes the place of a producer and keeps what is published."""

    connection = None

    def publish(self, body: Any, **options: Any) -> None:
        self.published = options


def destination(app: Celery, task: str, options: dict[str, Any]) -> dict[str, Any]:
    """Say where Celery sends a task: Router.route, then AMQP.send_task_message. Without what is as by default."""
    producer = Producer()
    try:
        routed = app.amqp.router.route(dict(options), task)
        queue = routed.get("queue")
        app.amqp.send_task_message(producer, task, task_message({}, {}, ((), {}, {}), None), **routed)
    except Exception as error:
        return {"error": type(error).__name__}
    sent = producer.published
    exchange = sent["exchange"]
    if sent["routing_key"] is None and not exchange:
        return {"error": "no routing key"}
    others = {name: sent[name] for name in ("priority", "expiration", "site_option") if sent.get(name) is not None}
    return {
        "routing_key": sent["routing_key"] or "",
        **({} if queue is None else {"queue": [queue.name, queue.exchange.name, queue.exchange.type, queue.routing_key]}),
        **({"exchange": getattr(exchange, "name", exchange)} if exchange else {}),
        **({"delivery_mode": sent["delivery_mode"]} if sent["delivery_mode"] != 2 else {}),
        **({"options": others} if others else {}),
    }


def routes(cases: Iterator[Case]) -> list[dict[str, Any]]:
    default = celery_settings.export(application())
    found = []
    for configuration, calls in cases:
        app = application(**configuration)
        changed = {name: value for name, value in celery_settings.export(app).items() if value != default[name]}
        results = [[task, options, destination(app, task, options)] for task, options in calls]
        found.append({"celery": changed, "calls": results})
    return found


NAMES = ("feed.tasks.import", "web.a", "web.a.b", "webx", "video.encode", "image.encode", "app.tasks.add_1", "app.Tasks.Add", "", "a[b", "x*y", "é.à")


def calls(*more: str) -> list[tuple[str, dict[str, Any]]]:
    return [(name, {}) for name in (*NAMES, *more)]


def calls_with_options() -> list[tuple[str, dict[str, Any]]]:
    return [(name, given) for name in NAMES[:7] for given in OPTIONS]


OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"queue": "other"},
    {"queue": None, "priority": None},
    {"queue": "", "priority": 1},
    {"routing_key": "k"},
    {"exchange": "e"},
    {"exchange": "e", "routing_key": "k"},
    {"exchange": "", "routing_key": "k"},
    {"exchange": "e", "routing_key": "k", "exchange_type": "topic"},
    {"exchange": "e", "exchange_type": "fanout"},
    {"exchange_type": "topic"},
    {"queue": "video", "exchange_type": "direct"},
    {"queue": "video", "routing_key": "video.x"},
    {"delivery_mode": 1, "priority": 5, "site_option": {"a": [1, 2.5]}},
)
TABLE = {
    "web.a": "one",
    "web.*": {"queue": "two", "priority": 3},
    "webx": {"routing_key": "only-a-key"},
    "video.encode": {"exchange": "media", "routing_key": "video.x"},
    "image.*": {"exchange": "media", "exchange_type": "topic", "routing_key": "image.x", "delivery_mode": 1, "site_option": None},
    "app.tasks.add_1": {"queue": Queue("declared", Exchange("dx", "topic"), routing_key="dk"), "expiration": 2.5},
    "": "",
    "feed*": {},
    "a[b": "bracket",
    "x*y": "star",
}
EXPRESSIONS = (
    r"(video|image)\.tasks\..*",
    r"video",
    r"web\.\w+$",
    r"^app\.[Tt]asks\.",
    r"a[\[\]b]+",
    r"[^\W\d]+\.",
    r"app\..*\d\Z",
    r"x\*y",
    r"[]x]",
    r"[\w.-]+x$",
    r"(?i)WEB\.A",
    r"(?:web|feed)(?=\.)",
    r"(web)\.\1",
    r"w{1}e{,2}b{1,}",
    r"w{x}",
    r"(?#comment)web",
    r"(?P<n>web)\.a",
    r"\x77eb",
    r"\u0077eb",
    r"we\142",
    r"web\b",
    r"\S+\.b$",
    r"[a-]b",
    r"é",
    r"\é",
    r"(?s:.)eb",
    r"(?m:^web$)",
    r"(?-i:web)",
    r".*[&~|]*\.a",
    r"web\.(a|a\.b)$",
    r"a\[b",
    r"(?:web)??\.?web",
)


def written() -> Iterator[Case]:
    """The rules that are recorded."""
    queues = (Queue("celery"), Queue("video", Exchange("media", "topic"), routing_key="video.*"), Queue("plain"), Broadcast("bc", queue="bcq"))
    yield {}, calls_with_options()
    yield {"task_routes": TABLE}, calls_with_options()
    yield {"task_routes": TABLE, "task_queues": queues}, calls_with_options()
    yield {"task_routes": TABLE, "task_queues": queues, "task_create_missing_queues": False}, calls_with_options()
    yield {"task_queues": queues, "task_default_queue": "video"}, calls_with_options()
    yield {"task_queues": queues, "task_default_queue": "bc"}, calls_with_options()
    yield (
        {"task_default_queue": "d", "task_default_exchange": "dx", "task_default_exchange_type": "topic", "task_default_routing_key": "dk"},
        calls_with_options(),
    )
    yield {"task_create_missing_queue_exchange_type": "topic", "task_routes": TABLE, "task_default_delivery_mode": 1}, calls_with_options()
    yield {"task_queues": {"d": {"exchange": "x", "binding_key": "bk"}, "e": {"exchange_type": "fanout"}}, "task_default_queue": "d"}, calls_with_options()
    yield {"task_queues": [Queue("w", bindings=[binding(Exchange("m", "topic"), "a.#")]), Queue("n")], "task_default_queue": "w"}, calls_with_options()
    yield {"task_routes": [{"web.*": "first"}, {"web.a": "second", "*": "rest"}]}, calls()
    yield {"task_routes": ({"web.*": "first"}, "nowhere.Router")}, calls()
    yield (
        {
            "task_routes": [
                ("web.*", "ab"),
            ]
        },
        calls(),
    )
    yield {"task_routes": [[("web.*", "ab"), ("web.a", {"queue": "exact"}), ("web.*", "later")]]}, calls()
    yield {"task_routes": {"web.*": None, "image.*": 5}}, calls()
    for pattern in (
        "[a-w]*",
        "[!a-w]*",
        "*[.]*",
        "[]x]*",
        "[!]]*",
        "w*[b-a]*",
        "*[!b-a]",
        "*.[a-]",
        "*?[a-c-e]",
        "[[]*",
        "*",
        "**a",
        "?eb*",
        "*\\*",
        "[^w]*",
        "*[a",
        "[--/]*",
    ):
        yield {"task_routes": {pattern: "hit"}}, calls()
    for expression in EXPRESSIONS:
        yield {"task_routes": {re.compile(expression): "hit"}}, calls()
    for flags in (re.I, re.M, re.S, re.A, re.I | re.S):
        yield {"task_routes": {re.compile(r"WEB\.a$|^Feed.*|\w+\.[\W\S]|x.y", flags): {"queue": "hit", "priority": 2}}}, calls("web.a\n", "web.a\nb", "x\ny")
    yield {"task_routes": {re.compile("web # site", re.X): "hit"}}, calls()
    yield {"task_routes": {re.compile(b"web"): "hit"}}, calls()


def generated(seed: int, count: int) -> Iterator[Case]:
    """Random rules, names and options."""
    rng = random.Random(seed)
    segments = (*2 * ("app", "web", "feed", "tasks", "import", "a", "b1", "Add", "x_y"), "é")
    queue_names = ("celery", "video", "bc", "one", "two", "three")

    def name() -> str:
        return ".".join(rng.choice(segments) for _ in range(rng.randint(1, 4)))

    def pattern() -> Any:
        text = name()
        kind = rng.randrange(3)
        if kind == 0:
            return text
        if kind == 1:
            at = rng.randrange(len(text))
            return text[:at] + rng.choice(("*", "?*", "*[a-f]*", "[!a-f]*", "*[x-]", "[]a]*", "*[!")) + text[at + rng.randrange(3) :]
        piece = rng.choice((r"\w+", r".*", r"[a-z]+", r"(web|app)", r"\d?", r"[^.]+", r"(?:\.|_)", r"\S{2,4}", r"x?"))
        tail = rng.choice(("", "$", r"\Z", r"\b", r".*"))
        return re.compile(re.escape(text[: rng.randrange(len(text) + 1)]) + piece + tail, rng.choice((0, 0, re.I, re.S, re.A)))

    def options() -> dict[str, Any]:
        values: dict[str, tuple[Any, ...]] = {
            "queue": (*queue_names, None),
            "exchange": ("e", "media", None),
            "exchange_type": ("direct", "topic", "fanout", None),
            "routing_key": ("k", "video.x", None),
            "delivery_mode": (1, 2, None),
            "priority": (0, 5, None),
        }
        return {key: rng.choice(values[key]) for key in values if rng.random() < 0.25}

    def table() -> dict[Any, Any]:
        return {pattern(): rng.choice(queue_names) if rng.random() < 0.5 else options() for _ in range(rng.randint(1, 6))}

    for _ in range(count):
        configuration: dict[str, Any] = {"task_create_missing_queues": rng.random() < 0.7}
        if rng.random() < 0.6:
            kinds = (
                Queue("celery"), Queue("video", Exchange("media", "topic"), routing_key="video.*"), Queue("one", routing_key="o"),
                Queue("two", Exchange("ex", "fanout", delivery_mode=1)), Broadcast("bc", queue="bcq"),
            )  # fmt: skip
            configuration["task_queues"] = rng.sample(kinds, rng.randint(1, len(kinds)))
        for setting, values in {
            "task_default_queue": ("celery", "one", "video"),
            "task_default_exchange": ("dx", "media"),
            "task_default_exchange_type": ("direct", "topic"),
            "task_default_routing_key": ("dk",),
            "task_create_missing_queue_exchange_type": ("topic", "direct"),
        }.items():
            if rng.random() < 0.3:
                configuration[setting] = rng.choice(values)
        if rng.random() < 0.9:
            configuration["task_routes"] = table() if rng.random() < 0.6 else [table() for _ in range(rng.randint(1, 3))]
        known = [key for item in [configuration.get("task_routes") or {}] for key in (item if isinstance(item, dict) else ()) if isinstance(key, str)]
        yield configuration, [(rng.choice(known) if known and rng.random() < 0.3 else name(), options()) for _ in range(20)]


def main(arguments: list[str]) -> None:
    if arguments == ["settings"]:
        print(json.dumps(settings(), indent=1))
        return
    cases = generated(int(arguments[1]), int(arguments[2])) if arguments[1:] else written()
    # A line for each case, so that a change shows where it is.
    print("[\n" + ",\n".join(json.dumps(case) for case in routes(cases)) + "\n]")


if __name__ == "__main__":
    main(sys.argv[1:])
