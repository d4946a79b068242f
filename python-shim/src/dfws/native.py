"""What Go needs in order to identify a window without Python: the cache of the topics, the sessions, the users and the languages.

Whatever the site does that only Python can do is named under ``obstacles``; then Go refuses to identify windows natively. SECRET_KEY stays
here: exported are the keys that derive from it, one per purpose.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any, Final

from df_websockets import ws_settings
from django.conf import settings
from django.conf.locale import LANG_INFO
from django.contrib.auth import backends, get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.sessions.backends import cache as cache_sessions
from django.contrib.sessions.backends import cached_db, db, file, signed_cookies
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.db import models, router
from django.db.models.manager import BaseManager
from django.utils.encoding import force_bytes
from django.utils.module_loading import import_string
from django.utils.translation import check_for_language, trans_real

from dfws import _df, caches, databases
from dfws.plain import describe as describe_value

WINDOW_INFO_MIDDLEWARES: Final = [
    f"df_websockets.ws_middleware.{name}Middleware" for name in ("WindowKey", "DjangoAuth", "Djangoi18n", "Browser")
]
SESSIONS: Final = "django.contrib.sessions.middleware.SessionMiddleware"
AUTHENTICATION: Final = "django.contrib.auth.middleware.AuthenticationMiddleware"
# django.contrib.auth.base_user.AbstractBaseUser._get_session_auth_hash
AUTH_SALT: Final = "django.contrib.auth.models.AbstractBaseUser.get_session_auth_hash"
_ENGINES: Final = {
    db.SessionStore: "db",
    cache_sessions.SessionStore: "cache",
    cached_db.SessionStore: "cached_db",
    file.SessionStore: "file",
    signed_cookies.SessionStore: "signed_cookies",
}
_BACKENDS: Final = {
    backends.ModelBackend: False,
    backends.AllowAllUsersModelBackend: True,
    backends.RemoteUserBackend: False,
    backends.AllowAllUsersRemoteUserBackend: True,
}
# Middlewares of others that neither change who is logged in nor the session of a handshake.
_HARMLESS: Final = ("django.", "df_websockets.", "channels.", "dfws.")
_AUTHENTICATING: Final = ("RemoteUserMiddleware", "PersistentRemoteUserMiddleware")


class _Site:
    """One description in the making: obstacles and the caches and databases that it needs."""

    def __init__(self) -> None:
        self.obstacles: list[str] = []
        self.notices: list[str] = []
        self.caches: dict[str, Any] = {}
        self.databases: dict[str, Any] = {}

    def cache(self, setting: str, alias: str) -> str:
        if alias not in self.caches:
            self.caches[alias] = caches.describe(alias)
        description = self.caches[alias]
        if "unsupported" in description:
            self.obstacles.append(f"{setting}: {description['unsupported']}")
        elif description["backend"] == "database":
            self.database(description["database"])
        return alias

    def database(self, alias: str) -> str:
        if alias not in self.databases:
            self.databases[alias] = databases.describe(alias)
        return alias


def describe() -> tuple[dict[str, Any], dict[str, Any]]:
    """Describe the site; return the section ``native`` and the databases that it names."""
    site = _Site()
    description = {
        "topics": {"cache": site.cache("WEBSOCKET_CACHE_BACKEND", _df.cache_alias())},
        "session": _session(site),
        "auth": _auth(site),
        "language": _language(),
    }
    wanted = list(ws_settings.WINDOW_INFO_MIDDLEWARES)
    if wanted != WINDOW_INFO_MIDDLEWARES:
        others = [path for path in wanted if path not in WINDOW_INFO_MIDDLEWARES]
        site.obstacles.append(f"WINDOW_INFO_MIDDLEWARES: {', '.join(others) or 'the order'}")
    _middlewares(site)
    # After everything that may add to them.
    described = {"obstacles": sorted(set(site.obstacles)), "notices": site.notices, **description, "caches": site.caches}
    return described, site.databases


# --- middlewares -----------------------------------------------------------------------------------------------------


def _middlewares(site: _Site) -> None:
    """Look for middlewares that decide who is logged in. What those of the site do nobody can know, so they are named."""
    foreign = []
    for path in settings.MIDDLEWARE:
        name = path.rpartition(".")[2]
        if path in (SESSIONS, AUTHENTICATION):
            continue
        if name in _AUTHENTICATING or _derives(path, (SESSIONS, AUTHENTICATION)):
            site.obstacles.append(f"MIDDLEWARE: {path}")
        elif not path.startswith(_HARMLESS):
            foreign.append(path)
    if foreign:
        site.notices.append(f"these middlewares do not run, whatever they do to users, sessions and languages: {', '.join(foreign)}")


def _derives(path: str, from_paths: Iterable[str]) -> bool:
    try:
        found = import_string(path)
        return isinstance(found, type) and issubclass(found, tuple(import_string(base) for base in from_paths))
    except (ImportError, ImproperlyConfigured):
        return False


# --- sessions --------------------------------------------------------------------------------------------------------


def _session(site: _Site) -> dict[str, Any] | None:
    """Describe the sessions; None for a site without them."""
    if SESSIONS not in settings.MIDDLEWARE:
        return None
    store = import_module(settings.SESSION_ENGINE).SessionStore
    engine = _ENGINES.get(store)
    if engine is None:
        site.obstacles.append(f"SESSION_ENGINE: {settings.SESSION_ENGINE}")
        return None
    if settings.SESSION_SERIALIZER != "django.contrib.sessions.serializers.JSONSerializer":
        site.obstacles.append(f"SESSION_SERIALIZER: {settings.SESSION_SERIALIZER}")
    described: dict[str, Any] = {"engine": engine}
    if engine in ("cache", "cached_db"):
        described["cache"] = site.cache("SESSION_CACHE_ALIAS", settings.SESSION_CACHE_ALIAS)
        described["cache_key_prefix"] = store.cache_key_prefix
    if engine in ("db", "cached_db"):
        model = store.get_model_class()
        described["database"] = site.database(str(router.db_for_read(model)))
        described["table"] = model._meta.db_table
    if engine == "file":
        # django.contrib.sessions.backends.file.SessionStore._get_storage_path
        folder = getattr(settings, "SESSION_FILE_PATH", None) or tempfile.gettempdir()
        described["path"] = os.path.join(os.path.abspath(folder), settings.SESSION_COOKIE_NAME)
    if engine != "cache":
        salt = store().key_salt if engine != "signed_cookies" else signed_cookies.__name__
        described["keys"] = [_key(f"{salt}signer", secret) for secret in _secrets()]
    return described


def _secrets() -> Iterator[Any]:
    yield settings.SECRET_KEY
    yield from settings.SECRET_KEY_FALLBACKS


def _key(salt: str, secret: Any) -> str:
    """Return the key of django.utils.crypto.salted_hmac with SHA-256."""
    return hashlib.sha256(salt.encode() + force_bytes(secret)).hexdigest()


# --- users -----------------------------------------------------------------------------------------------------------


def _auth(site: _Site) -> dict[str, Any] | None:
    """Describe the users; None for a site on which nobody is logged in by a session."""
    if AUTHENTICATION not in settings.MIDDLEWARE:
        return None
    known = []
    for path in settings.AUTHENTICATION_BACKENDS:
        backend = import_string(path)
        inactive = next((_BACKENDS[base] for base in backend.__mro__ if base in _BACKENDS), None)
        if inactive is None or not _inherits(backend, ("get_user", "user_can_authenticate"), _BACKENDS):
            site.obstacles.append(f"AUTHENTICATION_BACKENDS: {path}")
        else:
            known.append({"path": path, "inactive": inactive})
    return {
        "backends": known,
        "hash_keys": [_key(AUTH_SALT, secret) for secret in _secrets()],
        "user": _user(site),
    }


def _inherits(cls: type, names: Iterable[str], from_classes: Iterable[type]) -> bool:
    """Tell whether none of these methods is the class's own."""
    allowed = tuple(from_classes)
    return all(next(base for base in cls.__mro__ if name in vars(base)) in allowed for name in names)


def _user(site: _Site) -> dict[str, Any]:
    model = get_user_model()
    concrete = model._meta.concrete_model or model
    described: dict[str, Any] = {
        "database": site.database(str(router.db_for_read(model))),
        "table": concrete._meta.db_table,
        "label": model._meta.label_lower,
    }
    if not _inherits(model, ("get_session_auth_hash", "get_username"), (AbstractBaseUser,)):
        site.obstacles.append(f"AUTH_USER_MODEL: {model._meta.label} has a get_session_auth_hash or get_username of its own")
    manager = type(model._default_manager)
    if not _inherits(manager, ("get_queryset",), (BaseManager,)):
        site.obstacles.append(f"AUTH_USER_MODEL: the manager {describe_value(manager)} of {model._meta.label} selects users")
    pk = concrete._meta.pk
    kind = _kind_of(pk)
    if kind is None:
        site.obstacles.append(f"AUTH_USER_MODEL: the primary key of {model._meta.label} is a {type(pk).__name__}")
    described["pk"] = {"column": pk.column, "kind": kind}
    for name, field in (("username", model.USERNAME_FIELD), ("password", "password")):
        described[name] = _column(site, concrete, field)
    for flag in ("is_active", "is_staff", "is_superuser"):
        described[flag] = _flag(site, concrete, flag)
    return described


def _kind_of(field: Any) -> str | None:
    if isinstance(field, models.UUIDField):
        return "uuid"
    if isinstance(field, (models.IntegerField, models.AutoField)):
        return "int"
    return "text" if type(field) in (models.CharField, models.SlugField, models.EmailField) else None


def _column(site: _Site, model: Any, name: str) -> str:
    field = model._meta.get_field(name)
    if field.model._meta.concrete_model is not model:
        site.obstacles.append(f"AUTH_USER_MODEL: {model._meta.label}.{name} is in another table")
    if hasattr(field, "from_db_value"):
        site.obstacles.append(f"AUTH_USER_MODEL: {model._meta.label}.{name} is a {type(field).__name__}")
    return str(field.column)


def _flag(site: _Site, model: Any, name: str) -> dict[str, Any]:
    """Describe a flag: its column, or its value where it is none of the row's."""
    try:
        model._meta.get_field(name)
    except FieldDoesNotExist:
        value = getattr(model, name, None)
        if not isinstance(value, bool):
            site.obstacles.append(f"AUTH_USER_MODEL: {model._meta.label}.{name} is neither a column nor a constant")
            value = False
        return {"value": value}
    return {"column": _column(site, model, name)}


# --- languages -------------------------------------------------------------------------------------------------------


def _language() -> dict[str, Any]:
    """Describe what django.utils.translation.get_language_from_request knows."""
    if not settings.USE_I18N:
        return {"code": settings.LANGUAGE_CODE, "i18n": False}
    return {
        "code": settings.LANGUAGE_CODE,
        "i18n": True,
        "cookie": settings.LANGUAGE_COOKIE_NAME,
        # In this order: the first that fits wins.
        "supported": [{"code": code, "catalog": check_for_language(code)} for code in trans_real.get_languages()],
        "fallbacks": {code: list(info["fallback"]) for code, info in LANG_INFO.items() if "fallback" in info},
        # Since Django 6.1 a session without content is false.
        "empty_session_counts": bool(import_module(settings.SESSION_ENGINE).SessionStore()),
    }
