"""Celery's settings as the Go side needs them, from the resolved configuration: whatever spelling the site uses.

A setting that this Celery does not know is left out; Go then has the default of Celery 5.7 (celery/app/defaults.py).
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from celery.app.defaults import DEFAULTS
from django.apps import apps
from kombu import Exchange, Queue
from kombu.common import Broadcast
from kombu.utils.imports import symbol_by_name

from dfws import databases, urls
from dfws.plain import ExportError, describe, plain, seconds, unsupported

DATABASE_BACKEND: Final = "django-db"
CACHE_BACKEND: Final = "django-cache"
_REDIS_BACKENDS: Final = ("redis", "rediss", "sentinel", "redis+socket")
# Settings of celery.security.setup_security.
_SECURITY: Final = ("security_key", "security_certificate", "security_cert_store")
# Looked up by Celery without being in its table of defaults (celery.backends.redis.RedisBackend).
_WITHOUT_DEFAULT: Final = frozenset({"redis_client_name", "redis_backend_health_check_interval", "redis_backend_credential_provider"})
_UNIQUE: Final = re.compile(r"\.[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


def export(app: Any) -> dict[str, Any]:
    """Return the settings of a Celery application by their names in lower case."""
    conf = app.conf
    backend = result_backend(conf)
    values: dict[str, Any] = {
        "broker_url": broker_url(conf),
        "result_backend": backend,
        "task_queues": task_queues(app),
        "task_routes": task_routes(conf.task_routes),
        "task_annotations": task_annotations(conf.task_annotations),
        "security": security(conf),
        # Django's TIME_ZONE, where Celery has none of its own; without both, Celery's default is UTC.
        "timezone": str(conf.timezone or "UTC"),
    }
    if backend == DATABASE_BACKEND:
        values["result_database"] = databases.results_alias()
    for name, convert in _SETTINGS.items():
        if name in DEFAULTS or name in _WITHOUT_DEFAULT:
            # An attribute, because some settings have the value of another one by default (celery.app.utils.Settings).
            values[name] = convert(name, getattr(conf, name) if name in DEFAULTS else conf.get(name))
    return values


def broker_url(conf: Any) -> str:
    """Return the URL of the broker; a failover list as ``a;b``."""
    if conf.broker_read_url != conf.broker_write_url:
        raise ExportError("broker_read_url and broker_write_url differ: the Go side has one broker.")
    return urls.broker(conf)


def result_backend(conf: Any) -> str | None:
    """Return the URL of a backend in Redis, the names of django-celery-results, or else the site's own word, which Go refuses by name."""
    value = conf.result_backend
    if not value or value == "disabled":
        return None
    if not isinstance(value, str):
        return describe(value)
    name = value.partition("://")[0]
    if name in _REDIS_BACKENDS:
        return urls.result_backend(value, conf)
    return _django_backend(value) or value


def _django_backend(value: str) -> str | None:
    """Name a backend of django-celery-results, under whatever path the site has it."""
    if value in (DATABASE_BACKEND, CACHE_BACKEND):
        return value
    if "django" not in value or not apps.is_installed(databases.PACKAGE):
        return None
    try:
        backend = symbol_by_name(value)
    except (ValueError, ImportError, AttributeError):
        return None  # the site's own Celery does not find it either
    bases = {f"{base.__module__}.{base.__name__}" for base in getattr(backend, "__mro__", ())}
    for path, name in (("database.DatabaseBackend", DATABASE_BACKEND), ("cache.CacheBackend", CACHE_BACKEND)):
        if f"{databases.PACKAGE}.backends.{path}" in bases:
            return name
    return None


def security(conf: Any) -> list[str]:
    """List the settings for signed messages that the site has."""
    return [name for name in _SECURITY if conf.get(name)]


def can_keep_results(backend: str | None) -> bool:
    """Tell whether Go can store results in an exported backend, or the site stores none."""
    return backend is None or backend == DATABASE_BACKEND or backend.partition("://")[0] in _REDIS_BACKENDS


# --- queues and routes -----------------------------------------------------------------------------------------------


def task_queues(app: Any) -> list[dict[str, Any]] | None:
    """Describe task_queues as the application itself completes them, with default exchange, routing key and priority; None without."""
    declared = app.conf.task_queues
    if not declared:
        return None
    return [_queue(queue) for queue in app.amqp.Queues(declared).values()]


def _queue(queue: Queue) -> dict[str, Any]:
    """Describe one queue. A Broadcast whose name ends with a UUID has another one in each process: Go makes one of its own."""
    name = f"task_queues: {queue.name}"
    attributes = queue.as_dict(recurse=True)
    described: dict[str, Any] = plain(name, {key: attributes[key] for key in attributes if key not in ("queue", "bindings")})
    described = {key: value for key, value in described.items() if value is not None}
    if queue.bindings:
        described["bindings"] = [plain(name, binding.as_dict(recurse=True)) for binding in sorted(queue.bindings, key=str)]
    if isinstance(queue, Broadcast):
        described["broadcast"] = True
        described["unique"] = _UNIQUE.search(str(queue.name)) is not None
    return described


def task_routes(value: Any) -> list[dict[str, Any]]:
    """Describe task_routes as a list of routers: tables of rules, and what only Python can run (celery.app.routes.prepare)."""
    if value is None:
        return []
    return [_router(router) for router in (value if isinstance(value, (list, tuple)) else (value,))]


def _router(router: Any) -> dict[str, Any]:
    if isinstance(router, str):
        return unsupported(f"router {router}")
    if not isinstance(router, (Mapping, list, tuple)):
        return unsupported(describe(router))
    exact: dict[str, Any] = {}
    patterns: dict[re.Pattern[Any], tuple[dict[str, Any], Any]] = {}
    try:
        for key, route in router.items() if isinstance(router, Mapping) else router:
            if isinstance(key, re.Pattern):
                patterns[key] = (regular_expression(key), route)
            elif "*" in key:
                # Equal patterns replace each other, wherever they stand (celery.app.routes.MapRoute.__init__).
                patterns[re.compile(fnmatch.translate(key))] = ({"glob": key}, route)
            else:
                exact[key] = route
    except (TypeError, ValueError, re.error):
        return unsupported("a router that is no table of task names and routes")
    rules = [{"task": name, **_route(name, route)} for name, route in exact.items()]
    return {"rules": rules + [{**match, **_route(str(key.pattern), route)} for key, (match, route) in patterns.items()]}


def regular_expression(pattern: re.Pattern[Any]) -> dict[str, Any]:
    """Describe a regular expression; its flags by the letters of Python's inline syntax."""
    if isinstance(pattern.pattern, bytes):
        return unsupported("regular expression for bytes")
    flags = "".join(letter for letter in "aimsx" if pattern.flags & getattr(re, letter.upper()))
    return {"regex": pattern.pattern, "flags": flags}


def _route(name: str, route: Any) -> dict[str, Any]:
    """Describe where a rule leads: the name of a queue, or options of apply_async."""
    try:
        options = dict(route)
    except ValueError:
        options = {"queue": route}
    except TypeError:
        return {"unsupported": f"a route that is a {type(route).__name__}"}
    queue = options.get("queue")
    described: dict[str, Any] = plain(f"task_routes: {name}", {key: value for key, value in options.items() if key != "queue"})
    if "queue" in options:
        described["queue"] = _queue(queue) if isinstance(queue, Queue) else plain(f"task_routes: {name}", queue)
    if isinstance(options.get("exchange"), Exchange):
        described["exchange"] = options["exchange"].name
    return {"route": described}


def task_annotations(value: Any) -> list[dict[str, Any]]:
    """Describe task_annotations as a list of tables by task name, and what only Python can run (celery.app.annotations.prepare)."""
    if value is None:
        return []
    return [_annotation(annotation) for annotation in (value if isinstance(value, (list, tuple)) else (value,))]


def _annotation(annotation: Any) -> dict[str, Any]:
    if isinstance(annotation, str):
        return unsupported(f"class {annotation}")
    if not isinstance(annotation, dict):
        return unsupported(describe(annotation))
    try:
        tables = {str(task): dict(attributes) for task, attributes in annotation.items()}
    except (TypeError, ValueError):
        return unsupported("a table of annotations whose values are no tables")
    return {"tasks": plain("task_annotations", tables)}


def what_only_python_runs(described: Any) -> list[str]:
    """List what of exported routes or annotations Go cannot run."""
    if isinstance(described, Mapping):
        if "unsupported" in described:
            return [str(described["unsupported"])]
        described = described.values()
    elif not isinstance(described, list):
        return []
    return [what for item in described for what in what_only_python_runs(item)]


# --- values ----------------------------------------------------------------------------------------------------------


def _flag(name: str, value: Any) -> bool:
    return bool(value)


def _flag_or_none(name: str, value: Any) -> bool | None:
    return None if value is None else bool(value)


def _text(name: str, value: Any) -> str | None:
    return None if value is None else str(value)


def _texts(name: str, value: Any) -> list[str] | None:
    """A list of names. A single text is a list of its letters for Celery too, which then says so."""
    return None if value is None else [str(item) for item in value]


def _number(name: str, value: Any) -> int | float | None:
    """A number; infinity is no limit, as None is."""
    if value is None or value == float("inf"):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ExportError(f"{name} is no number but a {type(value).__name__}.") from None
    return int(number) if number.is_integer() else number


def _positive_seconds(name: str, value: Any) -> int | float | None:
    """A duration that 0 switches off as well as None."""
    return seconds(name, value) or None


def _delivery_mode(name: str, value: Any) -> int | None:
    """celery.app.amqp takes kombu's names and numbers."""
    return {"transient": 1, "persistent": 2}.get(value) or _number(name, value or None)  # type: ignore[return-value]


def _concurrency(name: str, value: Any) -> int | float | str | None:
    """A number, ``auto``, or None for the number of CPUs, which Celery also takes for other texts (celery.worker.WorkController)."""
    if not isinstance(value, str):
        return _number(name, value or None)
    text = value.strip()
    if text.lower() == "auto":
        return "auto"
    return int(text) or None if text.lstrip("+-").isdigit() else None


def _choice(name: str, value: Any) -> Any:
    """A name, or something that Python would have to run."""
    return value if value is None or isinstance(value, str) else unsupported(describe(value))


def _tls(name: str, value: Any) -> Any:
    """TLS options for Sentinels' servers, whose URLs have none. kombu makes nothing of ``True``."""
    return plain(name, value) if isinstance(value, Mapping) and value else None


def _credentials(name: str, value: Any) -> Any:
    return None if not value else unsupported(value if isinstance(value, str) else describe(value))


_SETTINGS: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    # broker
    "broker_transport_options": plain,
    "broker_use_ssl": _tls,
    "broker_connection_timeout": seconds,
    "broker_connection_retry": _flag,
    "broker_connection_retry_on_startup": _flag_or_none,
    "broker_connection_max_retries": _number,
    "broker_channel_error_retry": _flag,
    "broker_failover_strategy": _choice,
    "broker_pool_limit": _number,
    # results
    "result_backend_transport_options": plain,
    "result_expires": _positive_seconds,
    "result_failure_expires": seconds,
    "result_chord_expires": seconds,
    "result_chord_join_timeout": seconds,
    "result_chord_retry_interval": seconds,
    "result_extended": _flag,
    "result_serializer": _text,
    "result_accept_content": _texts,
    "result_compression": _text,
    "result_backend_always_retry": _flag,
    "result_backend_max_retries": _number,
    "result_backend_base_sleep_between_retries_ms": _number,
    "result_backend_max_sleep_between_retries_ms": _number,
    "redis_backend_use_ssl": _tls,
    "redis_socket_timeout": _positive_seconds,
    "redis_socket_connect_timeout": _positive_seconds,
    "redis_socket_keepalive": _flag,
    "redis_retry_on_timeout": _flag,
    "redis_max_connections": _number,
    "redis_client_name": _text,
    "redis_backend_health_check_interval": _positive_seconds,
    "redis_backend_credential_provider": _credentials,
    # tasks
    "task_default_queue": _text,
    "task_default_exchange": _text,
    "task_default_exchange_type": _text,
    "task_default_routing_key": _text,
    "task_default_priority": _number,
    "task_default_delivery_mode": _delivery_mode,
    "task_create_missing_queues": _flag,
    "task_create_missing_queue_exchange_type": _text,
    "task_queue_max_priority": _number,
    "task_inherit_parent_priority": _flag,
    "task_protocol": _number,
    "task_serializer": _text,
    "task_compression": _text,
    "accept_content": _texts,
    "task_acks_late": _flag,
    "task_acks_on_failure_or_timeout": _flag_or_none,
    "task_acks_on_failure": _flag_or_none,
    "task_acks_on_timeout": _flag_or_none,
    "task_reject_on_worker_lost": _flag,
    "task_retry_on_worker_lost": _flag,
    "task_default_rate_limit": _text,
    "task_time_limit": _positive_seconds,
    "task_soft_time_limit": _positive_seconds,
    "task_track_started": _flag,
    "task_ignore_result": _flag,
    "task_store_errors_even_if_ignored": _flag,
    "task_send_sent_event": _flag,
    "task_publish_retry": _flag,
    "task_publish_retry_policy": plain,
    "task_repr_maxlevels": _number,
    "task_allow_error_cb_on_chord_header": _flag,
    "task_always_eager": _flag,
    "enable_utc": _flag,
    # worker
    "worker_concurrency": _concurrency,
    "worker_prefetch_multiplier": _number,
    "worker_eta_task_limit": _number,
    "worker_enable_prefetch_count_reduction": _flag,
    "worker_disable_prefetch": _flag,
    "worker_direct": _flag,
    "worker_send_task_events": _flag,
    "worker_enable_remote_control": _flag,
    "worker_disable_rate_limits": _flag,
    "worker_cancel_long_running_tasks_on_connection_loss": _flag,
    "worker_soft_shutdown_timeout": seconds,
    "worker_enable_soft_shutdown_on_idle": _flag,
    "worker_deduplicate_successful_tasks": _flag,
    "worker_pool_restarts": _flag,
    # remote control and events
    "control_exchange": _text,
    "control_queue_ttl": seconds,
    "control_queue_expires": seconds,
    "control_queue_exclusive": _flag,
    "control_queue_durable": _flag,
    "event_exchange": _text,
    "event_queue_ttl": seconds,
    "event_queue_expires": seconds,
    "event_queue_prefix": _text,
    "event_queue_exclusive": _flag,
    "event_queue_durable": _flag,
    "event_serializer": _text,
}
