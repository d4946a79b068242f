from __future__ import annotations

import hashlib
from typing import Any

import pytest
from django.contrib.sessions.backends import db
from django.core.signing import Signer
from django.test import override_settings
from django.utils.crypto import salted_hmac

from dfws import caches, export, native
from tests import settings
from tests.conftest import run


class Store(db.SessionStore):
    """A session store of the site."""


SessionStore = Store


def described(**changes: Any) -> Any:
    with override_settings(**changes):
        return native.describe()[0]


def test_usual_site() -> None:
    section, needed = native.describe()
    assert section["obstacles"] == [] and section["notices"] == []
    assert section["topics"] == {"cache": "default"}
    assert section["caches"] == {
        "default": {
            "key_prefix": "",
            "version": "1",
            "backend": "redis",
            "serializer": "pickle",
            "compressor": "",
            "servers": [f"{settings.REDIS_URL}/1"],
        }
    }
    assert list(needed) == ["default"]
    assert section["session"]["engine"] == "db" and section["session"]["table"] == "django_session"
    assert section["auth"]["backends"] == [{"path": "django.contrib.auth.backends.ModelBackend", "inactive": False}]
    assert section["auth"]["user"] == {
        "database": "default",
        "table": "auth_user",
        "label": "auth.user",
        "pk": {"column": "id", "kind": "int"},
        "username": "username",
        "password": "password",
        "is_active": {"column": "is_active"},
        "is_staff": {"column": "is_staff"},
        "is_superuser": {"column": "is_superuser"},
    }
    assert section["language"]["supported"][0] == {"code": "af", "catalog": True}
    assert section["language"]["fallbacks"]["zh-tw"] == ["zh-hant"]


def test_keys_are_derived() -> None:
    """They are what Django signs with; SECRET_KEY itself is nowhere."""
    with override_settings(SECRET_KEY_FALLBACKS=["an-older-one"]):
        section = native.describe()[0]
        assert len(section["session"]["keys"]) == len(section["auth"]["hash_keys"]) == 2
        assert settings.SECRET_KEY not in export.text() and "an-older-one" not in export.text()
    salt = f"{db.SessionStore().key_salt}signer"
    assert section["session"]["keys"][0] == hashlib.sha256((salt + settings.SECRET_KEY).encode()).hexdigest()
    assert Signer(salt=db.SessionStore().key_salt).salt == db.SessionStore().key_salt
    mac = salted_hmac(native.AUTH_SALT, "hash", algorithm="sha256").hexdigest()
    import hmac

    assert hmac.new(bytes.fromhex(section["auth"]["hash_keys"][0]), b"hash", hashlib.sha256).hexdigest() == mac


@pytest.mark.parametrize(
    ("changes", "obstacle"),
    [
        ({"SESSION_ENGINE": "tests.test_native"}, "SESSION_ENGINE: tests.test_native"),
        ({"SESSION_SERIALIZER": "tests.test_native.Store"}, "SESSION_SERIALIZER: tests.test_native.Store"),
        ({"AUTHENTICATION_BACKENDS": ["tests.test_native.Backend"]}, "AUTHENTICATION_BACKENDS: tests.test_native.Backend"),
        (
            {"MIDDLEWARE": [*settings.MIDDLEWARE, "django.contrib.auth.middleware.RemoteUserMiddleware"]},
            "MIDDLEWARE: django.contrib.auth.middleware.RemoteUserMiddleware",
        ),
        (
            {"CACHES": {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}},
            "WEBSOCKET_CACHE_BACKEND: the backend django.core.cache.backends.locmem.LocMemCache",
        ),
        (
            {"CACHES": {"default": {**settings.CACHES["default"], "KEY_FUNCTION": lambda key, prefix, version: str(key)}}},
            "WEBSOCKET_CACHE_BACKEND: KEY_FUNCTION function",
        ),
        (
            {"CACHES": {"default": {**settings.CACHES["default"], "OPTIONS": {"serializer": "tests.test_native.Store"}}}},
            "WEBSOCKET_CACHE_BACKEND: serializer tests.test_native.Store",
        ),
        (
            {"CACHES": {"default": {**settings.CACHES["default"], "OPTIONS": {"retry_strategy": 5}}}},
            "WEBSOCKET_CACHE_BACKEND: connection options retry_strategy",
        ),
    ],
)
def test_obstacles(changes: dict[str, Any], obstacle: str) -> None:
    assert any(found.startswith(obstacle) for found in described(**changes)["obstacles"]), described(**changes)["obstacles"]


class Backend:
    """An authentication backend of the site."""

    def get_user(self, pk: Any) -> None:
        """Find nobody."""


def test_window_info_middlewares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("df_websockets.ws_settings.WINDOW_INFO_MIDDLEWARES", [*native.WINDOW_INFO_MIDDLEWARES, "shop.Tenant"])
    assert native.describe()[0]["obstacles"] == ["WINDOW_INFO_MIDDLEWARES: shop.Tenant"]
    monkeypatch.setattr("df_websockets.ws_settings.WINDOW_INFO_MIDDLEWARES", native.WINDOW_INFO_MIDDLEWARES[::-1])
    assert native.describe()[0]["obstacles"] == ["WINDOW_INFO_MIDDLEWARES: the order"]


def test_what_nobody_can_know_is_said() -> None:
    notices = described(MIDDLEWARE=[*settings.MIDDLEWARE, "tests.test_callback.Tenant"])["notices"]
    assert len(notices) == 1 and "tests.test_callback.Tenant" in notices[0]


def test_without_sessions_and_users() -> None:
    section = described(MIDDLEWARE=["df_websockets.middleware.WebsocketMiddleware"])
    assert (section["session"], section["auth"], section["obstacles"]) == (None, None, [])


def test_other_engines() -> None:
    cached = described(SESSION_ENGINE="django.contrib.sessions.backends.cached_db")["session"]
    assert (cached["cache"], cached["cache_key_prefix"]) == ("default", "django.contrib.sessions.cached_db")
    file = described(SESSION_ENGINE="django.contrib.sessions.backends.file", SESSION_FILE_PATH="/srv")["session"]
    assert file["path"] == "/srv/sessionid"
    assert "keys" not in described(SESSION_ENGINE="django.contrib.sessions.backends.cache")["session"]
    assert described(USE_I18N=False)["language"] == {"code": "en-us", "i18n": False}


def test_unknown_cache() -> None:
    assert caches.describe("nowhere") == {"unsupported": "there is no cache 'nowhere'"}


def test_export_without_the_app() -> None:
    """A site that has not installed the app exports its settings all the same."""
    code = (
        "import sys; from tests import settings; settings.INSTALLED_APPS.remove('dfws'); "
        "import runpy; sys.argv = ['dfws', 'settings', '--output', '-']; runpy.run_module('dfws', run_name='__main__')"
    )
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    assert '"installed": false' in done.stdout and '"obstacles": []' in done.stdout
