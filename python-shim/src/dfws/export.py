"""Export of the settings that the Go side needs, as one JSON document with a schema number.

Values are those in effect: with df_websockets' defaults and old names, and as its Celery application sees them. SECRET_KEY stays
here; where Go must verify a signature, it gets the derived key of that one purpose.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.sessions.backends import signed_cookies
from django.utils.encoding import force_bytes

from dfws import __version__, _df, conf, registry, store, tickets, urls

SCHEMA: Final = 1
CORE_LAYER: Final = "channels_redis.core.RedisChannelLayer"
# channels_redis.core.RedisChannelLayer.__init__
LAYER_DEFAULTS: Final[Mapping[str, Any]] = {
    "prefix": "asgi",
    "expiry": 60,
    "group_expiry": 86400,
    "capacity": 100,
    "random_prefix_length": 12,
    "serializer_format": "msgpack",
}
_SIGNED_COOKIES: Final = signed_cookies.__name__
_PACKAGES: Final = ("django", "df_websockets", "celery", "kombu", "channels", "channels_redis", "redis")


class ExportError(Exception):
    """The settings hold something that has no place in the export; the message names the setting."""


def document() -> dict[str, Any]:
    """Make the document. Loads df_websockets' Celery application, since the site may change its settings there."""
    celery = _df.celery_application().conf
    return {
        "schema": SCHEMA,
        "generated": {
            "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "shim": __version__,
            "python": platform.python_version(),
            **{package: _version(package) for package in _PACKAGES},
        },
        "site": _site(),
        "websocket": {
            "url": _df.websocket_url(),
            "default_queue": _df.default_queue(),
            "cache_prefix": _df.cache_prefix(),
            "cache_expire": tickets.expire(),
            "workers": _df.workers(),
        },
        "celery": _celery(celery),
        "channel_layer": _channel_layer(),
        "dfws": {
            "redis_url": conf.get().redis_url or _broker_url(celery),
            "key_prefix": store.key_prefix(),
            "go_queue": conf.get().go_queue,
            "gateway": dict(conf.get().gateway),
        },
    }


def text() -> str:
    """Return the document as text."""
    return json.dumps(document(), indent=2) + "\n"


def write(path: Path, content: str) -> None:
    """Write a file that only its owner can read, at once: a reader sees the old content or the new one."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise


# --- sections --------------------------------------------------------------------------------------------------------


def _site() -> dict[str, Any]:
    engine, signing_keys = _sessions()
    header = settings.SECURE_PROXY_SSL_HEADER
    return {
        "module": registry.site_module(),
        "debug": bool(settings.DEBUG),
        "allowed_hosts": [str(host) for host in settings.ALLOWED_HOSTS],
        "csrf_trusted_origins": [str(origin) for origin in settings.CSRF_TRUSTED_ORIGINS],
        "use_x_forwarded_host": bool(settings.USE_X_FORWARDED_HOST),
        "secure_proxy_ssl_header": None if header is None else [str(part) for part in header],
        "session_cookie_name": settings.SESSION_COOKIE_NAME,
        "session_engine": engine,
        "session_cookie_age": settings.SESSION_COOKIE_AGE,
        "csrf_cookie_name": settings.CSRF_COOKIE_NAME,
        "language_code": settings.LANGUAGE_CODE,
        "auth_user_model": get_user_model()._meta.label_lower,
        "session_signing_keys": signing_keys,
    }


def _sessions() -> tuple[str, list[str]]:
    """Return the session engine and, for sessions in signed cookies, the keys that verify them (django.core.signing.Signer)."""
    store_class = import_module(settings.SESSION_ENGINE).SessionStore
    if not issubclass(store_class, signed_cookies.SessionStore):
        return settings.SESSION_ENGINE, []
    salt = f"{_SIGNED_COOKIES}signer".encode()
    keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return _SIGNED_COOKIES, [hashlib.sha256(salt + force_bytes(key)).hexdigest() for key in keys]


def _celery(celery: Any) -> dict[str, Any]:
    backend = celery.result_backend or None
    if backend is not None:
        backend = urls.with_tls(str(backend), celery.redis_backend_use_ssl)
    return {
        "broker_url": _broker_url(celery),
        "broker_transport_options": _plain("broker_transport_options", celery.broker_transport_options or {}),
        "task_default_queue": str(celery.task_default_queue),
        "result_backend": backend,
        "result_backend_transport_options": _plain("result_backend_transport_options", celery.result_backend_transport_options or {}),
        "result_expires": _seconds("result_expires", celery.result_expires) or None,
        "result_extended": bool(celery.result_extended),
        "task_ignore_result": bool(celery.task_ignore_result),
        "task_serializer": str(celery.task_serializer),
        "result_serializer": str(celery.result_serializer),
        "accept_content": [str(content) for content in celery.accept_content],
        "timezone": str(celery.timezone or "UTC"),
        "enable_utc": bool(celery.enable_utc),
    }


def _broker_url(celery: Any) -> str:
    if celery.broker_read_url != celery.broker_write_url:
        raise ExportError("broker_read_url and broker_write_url differ: the Go side has one broker.")
    if not isinstance(celery.broker_write_url, str):
        raise ExportError("broker_url is a list: the Go side has one broker.")
    return urls.with_tls(celery.broker_write_url, celery.broker_use_ssl)


def _channel_layer() -> dict[str, Any]:
    layer = channel_layer()
    config = layer_config()
    return {
        "backend": str(layer.get("BACKEND", "")),
        "hosts": urls.layer_hosts(config.get("hosts")),
        "prefix": config["prefix"],
        "expiry": _seconds("expiry", config["expiry"]),
        "group_expiry": _seconds("group_expiry", config["group_expiry"]),
        "capacity": config["capacity"],
        "channel_capacity": [_capacity(*pair) for pair in (config.get("channel_capacity") or {}).items()],
        "symmetric_encryption_keys": [
            key.decode() if isinstance(key, bytes) else str(key) for key in config.get("symmetric_encryption_keys") or ()
        ],
        "random_prefix_length": config["random_prefix_length"],
        "serializer_format": config["serializer_format"],
    }


def channel_layer() -> Mapping[str, Any]:
    """Return CHANNEL_LAYERS["default"]; empty when the site has none."""
    layers: Mapping[str, Mapping[str, Any]] = getattr(settings, "CHANNEL_LAYERS", {})
    return layers.get("default", {})


def layer_config() -> dict[str, Any]:
    """Return the options of the channel layer, with channels_redis' defaults."""
    return {**LAYER_DEFAULTS, **channel_layer().get("CONFIG", {})}


# --- values ----------------------------------------------------------------------------------------------------------


def _capacity(pattern: Any, capacity: Any) -> list[Any]:
    if not isinstance(pattern, str):
        raise ExportError("CHANNEL_LAYERS: channel_capacity has a compiled regular expression: write it as a pattern like fnmatch.")
    return [pattern, capacity]


def _seconds(name: str, value: Any) -> int | float | None:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return int(value) if isinstance(value, float) and value.is_integer() else value
    raise ExportError(f"{name} is no number of seconds but a {type(value).__name__}.")


def _plain(name: str, value: Any) -> Any:
    """Return a setting's value as JSON has it; what JSON has not becomes ``{"unsupported": type}``, which Go refuses where it matters."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, timedelta):
        return _seconds(name, value)
    if isinstance(value, Mapping):
        return {str(key): _plain(f"{name}.{key}", item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(name, item) for item in value]
    return {"unsupported": type(value).__name__}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
