from __future__ import annotations

import hashlib
import json
import re
import stat
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core import signing
from django.core.management import CommandError, call_command
from django.test import override_settings

from dfws import _df, callback, export
from dfws.plain import ExportError
from tests import settings

REDIS = settings.REDIS_URL


@pytest.fixture
def celery(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Set values of the loaded Celery application for one test."""

    def change(**values: Any) -> None:
        for name, value in values.items():
            monkeypatch.setitem(_df.celery_application().conf.changes, name, value)

    return change


def test_document() -> None:
    document = export.document()
    generated = document.pop("generated")
    assert list(generated) == [
        "at",
        "shim",
        "python",
        "django",
        "df_websockets",
        "celery",
        "kombu",
        "channels",
        "channels_redis",
        "redis",
        "django_celery_results",
    ]
    optional = {"at", "django_celery_results"}
    assert all(re.match(r"\d+\.\d+", version) for name, version in generated.items() if name not in optional)
    celery = document.pop("celery")
    assert {name: celery[name] for name in ("broker_url", "result_backend", "task_default_queue", "timezone", "accept_content")} == {
        "broker_url": f"{REDIS}/0",
        "result_backend": f"{REDIS}/3",
        "task_default_queue": "celery",
        "timezone": "UTC",
        "accept_content": ["json"],
    }
    assert document.pop("native")["obstacles"] == []
    assert document.pop("databases")["default"]["vendor"] == "sqlite"
    keys = document["dfws"]["callback_keys"]
    assert [len(key) for key in keys] == [64]
    assert document == {
        "schema": 1,
        "site": {
            "module": "tests",
            "debug": False,
            "allowed_hosts": ["testserver", "testserver"],
            "csrf_trusted_origins": [],
            "use_x_forwarded_host": False,
            "secure_proxy_ssl_header": None,
            "static_url": None,
            "static_root": None,
            "session_cookie_name": "sessionid",
            "session_engine": "django.contrib.sessions.backends.db",
            "session_cookie_age": 1209600,
            "csrf_cookie_name": "csrftoken",
            "language_code": "en-us",
            "auth_user_model": "auth.user",
            "session_signing_keys": [],
        },
        "websocket": {
            "url": "/ws/",
            "default_queue": "celery",
            "cache_prefix": "df_ws",
            "cache_expire": 36000,
            "custom_topics": False,
            "workers": "celery",
        },
        "channel_layer": {
            "backend": "channels_redis.core.RedisChannelLayer",
            "hosts": [{"url": f"{REDIS}/2"}],
            "prefix": "asgi",
            "expiry": 60,
            "group_expiry": 86400,
            "capacity": 100,
            "channel_capacity": [],
            "symmetric_encryption_keys": [],
            "random_prefix_length": 12,
            "serializer_format": "msgpack",
        },
        "dfws": {
            "redis_url": f"{REDIS}/0",
            "key_prefix": "dfws:",
            "go_queue": "go",
            "installed": True,
            "callback_keys": keys,
            "gateway": {},
        },
    }


def test_site_that_changed_everything(celery: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    celery(
        broker_transport_options={"visibility_timeout": timedelta(hours=1), "priority_steps": (0, 5), "callback": print},
        result_expires=timedelta(seconds=90),
        result_backend=None,
        accept_content={"application/json"},
        timezone="Europe/Paris",
        broker_use_ssl={"ssl_cert_reqs": "none"},
    )
    monkeypatch.setattr("df_websockets.ws_settings.WEBSOCKET_URL", "/socket/")
    layers = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {
                "hosts": [{"address": "redis://h", "db": 1}, ("h", 1)],
                "expiry": 10.5,
                "channel_capacity": {"http.*": 5},
                "symmetric_encryption_keys": [b"one", "two"],
            },
        }
    }
    with override_settings(
        CHANNEL_LAYERS=layers,
        SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"),
        STATIC_URL="assets/",
        STATIC_ROOT=Path("collected"),
        DFWS_REDIS_URL="redis://elsewhere",
        DFWS_KEY_PREFIX="mine:",
        DFWS_GO_QUEUE="golang",
        DFWS_GATEWAY={"max-windows": 7},
    ):
        document = json.loads(export.text())
    assert document["celery"]["broker_url"] == f"{REDIS.replace('redis', 'rediss', 1)}/0?ssl_cert_reqs=none"
    assert document["celery"]["broker_transport_options"] == {
        "visibility_timeout": 3600,
        "priority_steps": [0, 5],
        "callback": {"unsupported": "function builtins.print"},
    }
    assert (document["celery"]["result_expires"], document["celery"]["result_backend"]) == (90, None)
    assert (document["celery"]["accept_content"], document["celery"]["timezone"]) == (["application/json"], "Europe/Paris")
    assert document["websocket"]["url"] == "/socket/"
    assert document["site"]["secure_proxy_ssl_header"] == ["HTTP_X_FORWARDED_PROTO", "https"]
    assert (document["site"]["static_url"], document["site"]["static_root"]) == ("/assets/", str(Path.cwd() / "collected"))
    layer = document["channel_layer"]
    assert layer["backend"] == "channels_redis.pubsub.RedisPubSubChannelLayer"
    assert layer["hosts"] == [{"url": "redis://h/1"}, {"url": "redis://h:1/0"}]
    assert (layer["expiry"], layer["channel_capacity"]) == (10.5, [["http.*", 5]])
    assert layer["symmetric_encryption_keys"] == ["one", "two"]
    assert document["dfws"] == {
        "redis_url": "redis://elsewhere",
        "key_prefix": "mine:",
        "go_queue": "golang",
        "installed": True,
        "callback_keys": [key.hex() for key in callback.signing_keys()],
        "gateway": {"max-windows": 7},
    }


def test_signed_cookies_get_derived_keys_only() -> None:
    engine = "django.contrib.sessions.backends.signed_cookies"
    with override_settings(SESSION_ENGINE=engine, SECRET_KEY_FALLBACKS=["an-old-key"]):
        text = export.text()
    site = json.loads(text)["site"]
    assert site["session_engine"] == engine
    assert settings.SECRET_KEY not in text
    assert "an-old-key" not in text
    # The keys verify what Django signs.
    value, _, signature = signing.dumps({"a": 1}, salt=engine).rpartition(":")
    import hmac
    from base64 import urlsafe_b64encode

    digest = hmac.new(bytes.fromhex(site["session_signing_keys"][0]), value.encode(), hashlib.sha256).digest()
    assert urlsafe_b64encode(digest).rstrip(b"=").decode() == signature
    assert site["session_signing_keys"][1] == hashlib.sha256(f"{engine}signeran-old-key".encode()).hexdigest()


def test_secret_key_is_never_exported() -> None:
    assert settings.SECRET_KEY not in export.text()


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"broker_url": ["redis://a", None]}, "broker_url"),
        ({"broker_read_url": "redis://elsewhere"}, "broker_read_url"),
        ({"result_expires": "soon"}, "result_expires"),
        ({"result_expires": float("inf")}, "result_expires is inf"),
        ({"worker_prefetch_multiplier": "many"}, "worker_prefetch_multiplier"),
    ],
)
def test_what_has_no_place_is_named(celery: Any, values: dict[str, Any], named: str) -> None:
    celery(**values)
    with pytest.raises(ExportError, match=named):
        export.text()
    with pytest.raises(CommandError, match=named):
        call_command("dfws", "settings", "--output", "-", skip_checks=True)


def test_compiled_patterns() -> None:
    patterns = {re.compile(r"specific\."): 5, "http.*": 6, re.compile("x", re.IGNORECASE): 7}
    layers = {"default": {"BACKEND": export.CORE_LAYER, "CONFIG": {"channel_capacity": patterns}}}
    with override_settings(CHANNEL_LAYERS=layers):
        document = json.loads(export.text())
    assert document["channel_layer"]["channel_capacity"] == [
        [{"regex": r"specific\.", "flags": ""}, 5],
        ["http.*", 6],
        [{"regex": "x", "flags": "i"}, 7],
    ]


def test_number_that_json_has_not() -> None:
    with override_settings(DFWS_GATEWAY={"max-windows": float("inf")}), pytest.raises(ExportError, match="JSON"):
        export.text()


def test_failover_list(celery: Any) -> None:
    celery(broker_url=["redis://a", "redis://b"])
    with override_settings(DFWS_REDIS_URL="redis://c"):
        document = export.document()
    assert (document["celery"]["broker_url"], document["dfws"]["redis_url"]) == ("redis://a;redis://b", "redis://c")


def test_results_that_never_expire(celery: Any) -> None:
    celery(result_expires=0)
    assert export.document()["celery"]["result_expires"] is None


def test_file_is_private_and_replaced_at_once(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text("old")
    path.chmod(0o644)
    before = path.stat().st_ino
    export.write(path, "new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_ino != before
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_left_of_a_file_that_failed(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        export.write(tmp_path / "settings.json", "Zoë")
    assert not list(tmp_path.iterdir())
