from __future__ import annotations

import re
from importlib import metadata
from typing import Any

import pytest
from django.apps import apps
from django.test import override_settings

from dfws import _df, checks, export

LAYER = export.CORE_LAYER


def ids(**settings: Any) -> list[str | None]:
    with override_settings(**settings):
        return [message.id for message in checks.check_dfws()]


def layer(backend: str = LAYER, **config: Any) -> dict[str, Any]:
    return {"default": {"BACKEND": backend, "CONFIG": config}}


def test_a_good_site() -> None:
    assert ids() == []


@pytest.mark.parametrize("enabled", [None, False])
def test_silent_when_inactive(enabled: bool | None) -> None:
    assert ids(DFWS_ENABLED=enabled, MIDDLEWARE=[], CHANNEL_LAYERS={}) == []


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"CACHES": {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}}, "dfws.E002"),
        ({"CACHES": {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}}, "dfws.E002"),
        ({"CHANNEL_LAYERS": layer("channels.layers.InMemoryChannelLayer")}, "dfws.E004"),
        ({"CHANNEL_LAYERS": {}}, "dfws.E004"),
        ({"CHANNEL_LAYERS": layer("site.layers.Layer")}, "dfws.E005"),
        ({"CHANNEL_LAYERS": layer(hosts=[{"host": "h", "credential_provider": object()}])}, "dfws.E005"),
        ({"CHANNEL_LAYERS": layer(serializer_format="site")}, "dfws.E005"),
        ({"MIDDLEWARE": ["django.contrib.sessions.middleware.SessionMiddleware", "not.there"]}, "dfws.E007"),
        ({"CHANNEL_LAYERS": layer(prefix="dfws")}, "dfws.E008"),
        ({"DFWS_KEY_PREFIX": "asgi:dfws:"}, "dfws.E008"),
        ({"DFWS_GO_QUEUE": ""}, "dfws.E009"),
        ({"DFWS_GO_QUEUE": "celery"}, "dfws.E011"),
        ({"DFWS_TYPO": 1}, "dfws.W004"),
        ({"CELERY_BROKER_URL": "redis://elsewhere"}, "dfws.W002"),
        ({"CELERY_TASK_ROUTES": {"a": "b"}}, "dfws.W002"),
    ],
)
def test_what_cannot_work(settings: dict[str, Any], expected: str) -> None:
    assert ids(**settings) == [expected]


@pytest.mark.parametrize(
    "layers",
    [
        layer(export.PUBSUB_LAYER),
        layer(hosts=["redis://a", {"host": "b", "db": 1}]),
        layer(hosts=[{"sentinels": [("h", 1)], "master_name": "m", "ssl": True}]),
        layer(symmetric_encryption_keys=["key"], serializer_format="json"),
        layer(channel_capacity={re.compile("specific"): 5}),
    ],
)
def test_layers_that_work(layers: dict[str, Any]) -> None:
    assert ids(CHANNEL_LAYERS=layers) == []


def test_channels_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("df_websockets.ws_settings.WEBSOCKET_WORKERS", "channels")
    assert ids() == []


@pytest.mark.parametrize("mode", ["thread", "process"])
def test_workers(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setattr("df_websockets.ws_settings.WEBSOCKET_WORKERS", mode)
    assert ids() == ["dfws.E003"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"broker_url": "amqp://h"}, "dfws.E006"),
        ({"broker_url": "redis://a;amqp://b"}, "dfws.E006"),
        ({"broker_url": "redis://a;redis://b"}, "dfws.E012"),
        ({"broker_url": ["redis://a", "redis://b"]}, "dfws.E012"),
        ({"broker_use_ssl": True}, "dfws.W005"),
        ({"broker_read_url": "redis://elsewhere"}, "dfws.E006"),
        ({"task_create_missing_queues": False}, "dfws.E010"),
    ],
)
def test_broker(monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], expected: str) -> None:
    for name, value in values.items():
        monkeypatch.setitem(_df.celery_conf().changes, name, value)
    assert ids() == [expected]


def test_several_brokers_with_a_redis_of_dfws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_df.celery_conf().changes, "broker_url", "redis://a;redis://b")
    assert ids(DFWS_REDIS_URL="redis://h") == []


def test_sentinels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_df.celery_conf().changes, "broker_url", "sentinel://a;sentinel://b")
    assert ids() == []


def test_names_that_say_the_same() -> None:
    assert ids(CELERY_TASK_ACKS_LATE=False, CELERY_TASK_SERIALIZER="json") == []


def test_names_that_df_websockets_does_not_read() -> None:
    with override_settings(CELERY_TASK_ROUTES={"a": "b"}, CELERY_WORKER_CONCURRENCY=3):
        (message,) = checks.check_dfws()
    assert "CELERY_TASK_ROUTES, CELERY_WORKER_CONCURRENCY" in message.msg
    assert message.hint == "Use Celery's old names: CELERY_ROUTES, CELERYD_CONCURRENCY."


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"task_always_eager": True}, ["dfws.E013"]),
        ({"security_key": "/key"}, ["dfws.E014"]),
        ({"redis_backend_credential_provider": "site.Provider"}, ["dfws.E015"]),
        ({"redis_backend_use_ssl": True}, ["dfws.E016"]),
        ({"result_backend": "rpc://"}, ["dfws.W006"]),
        ({"result_backend": "db+sqlite:///site"}, ["dfws.W006"]),
        ({"result_backend": "django-cache"}, ["dfws.W006"]),
        ({"result_backend": "sentinel://a;sentinel://b"}, []),
        ({"result_backend": None}, []),
        ({"result_backend": "django-db"}, [] if apps.is_installed("django_celery_results") else ["dfws.E016"]),
        ({"task_routes": {"a.*": "q"}}, []),
        ({"task_routes": [{"a.*": "q"}, "site.Router"]}, ["dfws.W007"]),
        ({"task_routes": {"a": None}}, ["dfws.W007"]),
        ({"task_annotations": {"a": {"rate_limit": "1/s"}}}, []),
        ({"task_annotations": {"a": {"on_failure": print}}}, ["dfws.W007"]),
    ],
)
def test_what_go_does_not_do(monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], expected: list[str]) -> None:
    for name, value in values.items():
        monkeypatch.setitem(_df.celery_conf().changes, name, value)
    messages = checks.check_dfws()
    assert [message.id for message in messages] == expected
    assert all(message.hint or message.id == "dfws.E016" for message in messages)


def test_warning_names_what_only_python_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_df.celery_conf().changes, "task_routes", ["site.Router", {"a": None}])
    (message,) = checks.check_dfws()
    assert "router site.Router, a route that is a NoneType" in message.msg


def test_declared_go_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"task_create_missing_queues": False, "task_queues": {"go": {}, "celery": {}}}.items():
        monkeypatch.setitem(_df.celery_conf().changes, name, value)
    assert ids() == []


def test_subclass_of_the_middleware_counts() -> None:
    assert ids(MIDDLEWARE=["tests.test_checks.SiteMiddleware"]) == []


class SiteMiddleware(_df.WebsocketMiddleware):  # type: ignore[misc]
    pass


def test_internals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_df, "problems", lambda: ["something is different"])
    monkeypatch.setattr(_df, "version", lambda: (2, 0))
    assert ids() == ["dfws.E001", "dfws.W003"]


@pytest.mark.parametrize(
    ("redis", "channels_redis", "expected"),
    [("8.1.0", "4.3.0", ["dfws.W001"]), ("8.0.0", "4.4.0", []), ("7.0.0", "4.3.0", []), ("10.0.0", "4.2.1", ["dfws.W001"])],
)
def test_redis_versions(monkeypatch: pytest.MonkeyPatch, redis: str, channels_redis: str, expected: list[str]) -> None:
    versions = {"redis": redis, "channels_redis": channels_redis}
    real = metadata.version
    monkeypatch.setattr("importlib.metadata.version", lambda package: versions.get(package) or real(package))
    assert ids() == expected


def test_messages_name_a_way_out() -> None:
    with override_settings(CHANNEL_LAYERS={}, MIDDLEWARE=[], DFWS_GO_QUEUE="celery"):
        messages = checks.check_dfws()
    assert len(messages) == 3
    assert all(message.hint for message in messages)
