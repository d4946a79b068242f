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
import re
import secrets
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Final

from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.sessions.backends import signed_cookies
from django.utils.encoding import force_bytes

from dfws import __version__, _df, callback, celery_settings, conf, databases, native, registry, store, tickets, urls
from dfws.plain import ExportError, seconds

SCHEMA: Final = 1
CORE_LAYER: Final = "channels_redis.core.RedisChannelLayer"
PUBSUB_LAYER: Final = "channels_redis.pubsub.RedisPubSubChannelLayer"
SERIALIZERS: Final = ("msgpack", "json")
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
_PACKAGES: Final = ("django", "df_websockets", "celery", "kombu", "channels", "channels_redis", "redis", "django_celery_results")


def document() -> dict[str, Any]:
    """Make the document. Loads df_websockets' Celery application, since the site may change its settings there."""
    app = _df.celery_application()
    celery = celery_settings.export(app)
    described, needed = native.describe()
    results = celery.get("result_database")
    if results is not None:
        needed[results] = databases.describe(results)
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
            "custom_topics": _df.custom_topics(),
            "workers": _df.workers(),
        },
        "celery": celery,
        "native": described,
        "databases": needed,
        "channel_layer": _channel_layer(),
        "dfws": {
            "redis_url": conf.get().redis_url or celery["broker_url"],
            "key_prefix": store.key_prefix(),
            "go_queue": conf.get().go_queue,
            "installed": apps.is_installed("dfws"),
            "callback_keys": [key.hex() for key in callback.signing_keys()],
            "gateway": dict(conf.get().gateway),
        },
    }


def text() -> str:
    """Return the document as text."""
    content = document()
    try:
        return json.dumps(content, indent=2, allow_nan=False) + "\n"
    except ValueError as error:
        raise ExportError(f"A setting has no place in JSON: {error}.") from error


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
        "static_url": settings.STATIC_URL,
        "static_root": os.path.abspath(settings.STATIC_ROOT) if settings.STATIC_ROOT else None,
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


def _channel_layer() -> dict[str, Any]:
    layer = channel_layer()
    config = layer_config()
    return {
        "backend": str(layer.get("BACKEND", "")),
        "hosts": urls.layer_hosts(config.get("hosts")),
        "prefix": config["prefix"],
        "expiry": seconds("expiry", config["expiry"]),
        "group_expiry": seconds("group_expiry", config["group_expiry"]),
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
    if isinstance(pattern, re.Pattern):
        return [celery_settings.regular_expression(pattern), capacity]
    return [str(pattern), capacity]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
