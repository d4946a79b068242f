"""System checks: what cannot work is said by ``manage.py check`` instead of by a window that stays silent."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import metadata
from typing import Any, Final

from celery.app.defaults import _TO_NEW_KEY, _TO_OLD_KEY  # type: ignore[attr-defined]  # as dfws._df
from django.conf import settings
from django.core.cache import InvalidCacheBackendError, caches
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.checks import CheckMessage, Error, Warning, register
from django.utils.module_loading import import_string

from dfws import _df, celery_settings, conf, databases, export, store, urls
from dfws.plain import ExportError

TAG: Final = "dfws"


def register_all() -> None:
    """Register the checks."""
    register(check_dfws, TAG)


def check_dfws(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Run every check, unless dfws does nothing in this process."""
    if not conf.enabled():
        return []
    return [message for check in _CHECKS for message in check()]


def _internals() -> Iterable[CheckMessage]:
    found = _df.problems()
    if found:
        yield Error(
            f"df_websockets is not as dfws expects it: {'; '.join(found)}.",
            hint='Add "df_websockets" to INSTALLED_APPS and install a version that dfws supports (1.2).',
            id="dfws.E001",
        )
    lowest, beyond = _df.TESTED
    if not lowest <= _df.version() < beyond:
        yield Warning(f"dfws was not tested with df_websockets {metadata.version('df_websockets')}.", id="dfws.W003")


def _topics_cache() -> Iterable[CheckMessage]:
    try:
        cache = caches[_df.cache_alias()]
    except InvalidCacheBackendError:
        return  # df_websockets.E001 says so
    if isinstance(cache, (LocMemCache, DummyCache)):
        yield Error(
            f"The cache '{_df.cache_alias()}' ({type(cache).__name__}) is not shared between processes.",
            hint="Use a Redis cache, or name one in WEBSOCKET_CACHE_BACKEND.",
            id="dfws.E002",
        )


def _workers() -> Iterable[CheckMessage]:
    if _df.workers() not in (_df.WORKERS_CELERY, _df.WORKERS_CHANNELS):
        yield Error(
            f'WEBSOCKET_WORKERS is "{_df.workers()}": the signals stay inside the Python processes.',
            hint='Set WEBSOCKET_WORKERS = "celery" and install celery, or set it to "channels".',
            id="dfws.E003",
        )


def _channel_layer() -> Iterable[CheckMessage]:
    layer = export.channel_layer()
    backend = str(layer.get("BACKEND", ""))
    if not backend or backend.endswith("InMemoryChannelLayer"):
        what = "is an in-memory layer" if backend else "is missing"
        yield Error(
            f'CHANNEL_LAYERS["default"] {what}: no other process gets its messages.',
            hint=f'Use "{export.CORE_LAYER}".',
            id="dfws.E004",
        )
        return
    config = export.layer_config()
    unsupported = []
    if backend not in (export.CORE_LAYER, export.PUBSUB_LAYER):
        unsupported.append(f"the layer {backend}")
    unsupported.extend(host["unsupported"] for host in urls.layer_hosts(config.get("hosts")) if "unsupported" in host)
    if config["serializer_format"] not in export.SERIALIZERS:
        unsupported.append(f"serializer_format {config['serializer_format']}")
    if unsupported:
        yield Error(
            f'CHANNEL_LAYERS["default"]: the gateway does not support {", ".join(unsupported)}.',
            hint=f'Use "{export.CORE_LAYER}" or "{export.PUBSUB_LAYER}" with serializer_format "msgpack" or "json".',
            id="dfws.E005",
        )


def _broker() -> Iterable[CheckMessage]:
    celery = _df.celery_conf()
    if not urls.is_redis_family(celery.broker_write_url):
        yield Error(
            f"Celery's broker is not Redis but {urls.scheme(celery.broker_write_url) or 'no URL'}.",
            hint='Set BROKER_URL = "redis://…": df_websockets reads Celery\'s settings under their old names.',
            id="dfws.E006",
        )
    elif celery.broker_read_url != celery.broker_write_url:
        yield Error("Celery reads from another broker than it writes to; the Go side has one.", id="dfws.E006")
    elif conf.get().redis_url is None and not (urls.is_redis(celery.broker_write_url) or urls.is_sentinel(celery.broker_write_url)):
        yield Error(
            "Celery's broker is a list of servers, and DFWS_REDIS_URL is not set.",
            hint="Set DFWS_REDIS_URL to the Redis for the registry of signals and the tickets.",
            id="dfws.E012",
        )
    if celery.broker_use_ssl is True:
        yield Warning(
            "broker_use_ssl is True, which kombu ignores for Redis: the connections to the broker are not encrypted.",
            hint='Use rediss:// in the URL, or a dictionary such as {"ssl_cert_reqs": "required"}.',
            id="dfws.W005",
        )
    if celery.task_create_missing_queues is False and conf.get().go_queue not in _queue_names(celery):
        yield Error(
            f"task_create_missing_queues is off and the queue '{conf.get().go_queue}' of the Go handlers is not in task_queues.",
            hint="Add it to CELERY_QUEUES, or set CELERY_CREATE_MISSING_QUEUES = True.",
            id="dfws.E010",
        )


def _celery_names() -> Iterable[CheckMessage]:
    """Warn of names that Celery's own Django integration reads, with namespace="CELERY", and df_websockets does not."""
    celery = _df.celery_conf()
    ignored = {
        f"CELERY_{new.upper()}": old
        for new, old in _TO_OLD_KEY.items()
        if f"CELERY_{new.upper()}" not in _TO_NEW_KEY
        and hasattr(settings, f"CELERY_{new.upper()}")
        and getattr(settings, f"CELERY_{new.upper()}") != celery.get(new)
    }
    if ignored:
        yield Warning(
            f"df_websockets does not read {', '.join(sorted(ignored))}.",
            hint=f"Use Celery's old names: {', '.join(ignored[name] for name in sorted(ignored))}.",
            id="dfws.W002",
        )


def _celery() -> Iterable[CheckMessage]:
    """What Go programs refuse, or do not do."""
    celery = _df.celery_conf()
    if celery.task_always_eager:
        yield Error(
            "task_always_eager is on: Python runs each task where it is called, and nobody runs the tasks that the gateway sends.",
            hint="Switch CELERY_ALWAYS_EAGER off where a gateway runs.",
            id="dfws.E013",
        )
    if names := celery_settings.security(celery):
        yield Error(
            f"Messages are signed ({', '.join(names)}): Go programs can neither sign nor verify them.",
            hint="Leave these settings out, and protect Redis by a password and TLS.",
            id="dfws.E014",
        )
    if celery.get("redis_backend_credential_provider"):
        yield Error(
            "redis_backend_credential_provider is Python code, which Go programs cannot run.",
            hint="Use a user and a password for the result backend.",
            id="dfws.E015",
        )
    try:
        results = celery_settings.result_backend(celery)
        if results == celery_settings.DATABASE_BACKEND:
            databases.results_alias()
    except ExportError as error:
        yield Error(str(error), id="dfws.E016")
    else:
        if not celery_settings.can_keep_results(results):
            yield Warning(
                f"Go workers cannot store results in {urls.scheme(results) or results}.",
                hint="Use Redis, or django-db of django-celery-results.",
                id="dfws.W006",
            )
    for setting, described in (
        ("task_routes", celery_settings.task_routes(celery.task_routes)),
        ("task_annotations", celery_settings.task_annotations(celery.task_annotations)),
    ):
        if found := celery_settings.what_only_python_runs(described):
            yield Warning(
                f"{setting} has what only Python can run: {', '.join(found)}.",
                hint=_ONLY_PYTHON[setting],
                id="dfws.W007",
            )


_ONLY_PYTHON: Final = {
    "task_routes": "Put a table of names and patterns in front, with the tasks that Go programs send, or let them name the queue.",
    "task_annotations": "Use a table of task names and values. Go workers do not apply the rest.",
}


def _queue_names(celery: Any) -> set[str]:
    queues = celery.task_queues or ()
    return set(queues) if isinstance(queues, dict) else {queue.name for queue in queues}


def _middleware() -> Iterable[CheckMessage]:
    for path in settings.MIDDLEWARE:
        try:
            middleware = import_string(path)
        except ImportError:
            continue
        if isinstance(middleware, type) and issubclass(middleware, _df.WebsocketMiddleware):
            return
    yield Error(
        "WebsocketMiddleware is not in MIDDLEWARE.",
        hint='Add "df_websockets.middleware.WebsocketMiddleware" after AuthenticationMiddleware.',
        id="dfws.E007",
    )


def _settings() -> Iterable[CheckMessage]:
    for fault in conf.faults():
        yield Error(fault, id="dfws.E009")
    for name in conf.unknown():
        yield Warning(f"dfws has no setting {name}.", hint="See the settings in the README of dfws.", id="dfws.W004")
    if conf.get().go_queue == _df.default_queue():
        yield Error(
            f"DFWS_GO_QUEUE and WEBSOCKET_DEFAULT_QUEUE are both '{_df.default_queue()}'.",
            hint="Python workers take the calls of Go handlers from this queue and drop them: use two queues.",
            id="dfws.E011",
        )
    layer_prefix = str(export.layer_config()["prefix"])
    if store.key_prefix().startswith(layer_prefix):
        yield Error(
            f"The key prefix '{store.key_prefix()}' starts with the channel layer's prefix '{layer_prefix}'.",
            hint="The layer's flush() would delete the keys of dfws: change DFWS_KEY_PREFIX.",
            id="dfws.E008",
        )


def _redis_versions() -> Iterable[CheckMessage]:
    try:
        client, layer = (_version(package) for package in ("redis", "channels_redis"))
    except metadata.PackageNotFoundError:
        return
    if client >= (8,) and layer < (4, 4):
        yield Warning(
            "channels_redis up to 4.3 loses idle websockets every few seconds with redis-py 8.",
            hint='Install "redis<8".',
            id="dfws.W001",
        )


def _version(package: str) -> tuple[int, ...]:
    return tuple(int(part) for part in metadata.version(package).split(".")[:2] if part.isdigit())


_CHECKS: Final[tuple[Callable[[], Iterable[CheckMessage]], ...]] = (
    _internals,
    _topics_cache,
    _workers,
    _channel_layer,
    _broker,
    _celery_names,
    _celery,
    _middleware,
    _settings,
    _redis_versions,
)
