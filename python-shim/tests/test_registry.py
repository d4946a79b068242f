from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from django.test import Client, override_settings

from dfws import _df, apps, background, registry, routing
from tests.conftest import Server, entry_of, publish_go, wait_until


def test_entry(redis: Any) -> None:
    assert registry.publish()

    entry = entry_of(redis)
    signals = {name: handlers for name, handlers in entry["signals"].items() if name.startswith("shop.")}
    assert {name: entry[name] for name in ("schema", "publisher", "language", "app", "default_queue")} == {
        "schema": 1,
        "publisher": "python",
        "language": "python",
        "app": "tests",
        "default_queue": "celery",
    }
    assert signals["shop.order"] == [
        {
            "handler": "tests.shop.signals.account",
            "queue": "slow",
            "dynamic": False,
            "queues": ["slow"],
            "allow": "has_perm:auth.change_user",
            "arguments": {"required": [], "optional": [], "any": True},
        },
        {
            "handler": "tests.shop.signals.order",
            "queue": "celery",
            "dynamic": False,
            "queues": ["celery"],
            "allow": "everyone",
            "arguments": {"required": ["article"], "optional": ["amount"], "any": False},
        },
    ]
    assert signals["shop.dynamic"] == [
        {
            "handler": "tests.shop.signals.dynamic",
            "queue": None,
            "dynamic": True,
            "queues": ["shop-0", "shop-1"],
            "allow": "custom",
            "arguments": {"required": [], "optional": ["shard"], "any": False},
        }
    ]
    dynamic, static = signals["shop.mixed"]
    assert (dynamic["queue"], dynamic["dynamic"], dynamic["queues"], dynamic["allow"]) == (None, True, [], "server_side")
    assert (static["queue"], static["dynamic"], static["queues"]) == ("shop-0", False, ["shop-0"])
    canonical = json.dumps(entry["signals"], sort_keys=True, separators=(",", ":"))
    assert entry["digest"] == hashlib.sha256(canonical.encode()).hexdigest()


def test_written_only_when_it_changed(redis: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert registry.publish()
    before = redis.hget("dfws:registry", "python")
    assert not registry.publish()
    assert redis.hget("dfws:registry", "python") == before

    monkeypatch.setitem(_df.local_handlers(), "shop.new", _df.local_handlers()["shop.order"])
    assert registry.publish()
    assert "shop.new" in entry_of(redis)["signals"]


def test_change_is_announced(redis: Any) -> None:
    with redis.pubsub() as subscription:
        subscription.subscribe("dfws:registry:changed")
        wait_until(lambda: subscription.get_message())
        registry.publish()
        message = subscription.get_message(timeout=5)
    assert message is not None and message["data"] == "python"


def test_published_when_the_site_serves_pages(redis: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apps, "_published_by", set())
    Client().get("/plain/")
    wait_until(lambda: redis.hexists("dfws:registry", "python"))


def test_waits_for_redis_without_delaying_the_start(redis: Any, redis_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apps, "_published_by", set())
    monkeypatch.setattr(background, "FIRST_PAUSE", 0.05)
    redis_server.stop()
    try:
        apps._serving()
        assert background.pending() == 1
    finally:
        redis_server.start()
    wait_until(lambda: redis.hexists("dfws:registry", "python"))


def test_site_that_cannot_be_published_starts(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(apps, "_published_by", set())
    monkeypatch.setattr(_df, "import_handlers", lambda: 1 / 0)
    assert Client().get("/plain/").status_code == 200
    assert "not published" in caplog.text


def test_not_published_when_inactive(redis: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apps, "_published_by", set())
    with override_settings(DFWS_ENABLED=None):
        Client().get("/plain/")
    assert background.pending() == 0
    assert not redis.exists("dfws:registry")


def test_published_again_when_it_vanished(redis: Any) -> None:
    publish_go(redis, {})
    routing.snapshot()
    wait_until(lambda: redis.hexists("dfws:registry", "python"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        "[]",
        '{"schema": 2, "signals": {}}',
        '{"schema": 1, "signals": []}',
        '{"schema": 1, "signals": {"s": 1}}',
        '{"schema": 1, "signals": {"s": [null, {"queue": 1}, {"queue": null}]}}',
    ],
)
def test_malformed_entries_are_left_out(text: str) -> None:
    good = '{"schema": 1, "language": "go", "default_queue": "go", "signals": {"s": [{"queue": null, "allow": "everyone"}]}}'
    snapshot = registry.read({"go:bad": text, "go:good": good})
    assert snapshot.signals == {"s": (registry.RemoteHandler("go:good", "go", "go", "everyone"),)}
