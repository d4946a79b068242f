from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from df_websockets.decorators import REGISTERED_SIGNALS
from df_websockets.tasks import SERVER, WINDOW, process_task, trigger, trigger_signal
from df_websockets.testing import SignalQueue
from df_websockets.window_info import WindowInfo
from django.test import AsyncClient, Client, override_settings

from dfws import _df, background, registry, routing, store
from dfws.tasks import resolve_queues
from tests.conftest import Server, get, handler, messages, publish_go, wait_until

TASK = "df_websockets.tasks._server_signal_call"
RESOLVE = "dfws.tasks.resolve_queues"


def test_signal_of_go_only(redis: Any) -> None:
    publish_go(redis, {"demo.hello": [handler("go"), handler("go-slow"), handler("go")]})

    trigger(None, "demo.hello", to=[SERVER], name="Zoë", big=10**30)

    window_info = WindowInfo().to_dict()
    for queue in ("go", "go-slow"):
        [(task, args, kwargs, headers)] = messages(redis, queue)
        assert task == TASK
        assert args == ["demo.hello", window_info, {"name": "Zoë", "big": 10**30}, False, [], True, queue]
        assert (kwargs, headers["eta"]) == ({}, None)
    assert not redis.exists("celery")


def test_signal_of_both_languages(redis: Any) -> None:
    publish_go(redis, {"shop.order": [handler("go")]})
    trigger(None, "shop.order", to=[SERVER], article=1)
    assert [args[6] for queue in ("celery", "slow", "go") for _, args, _, _ in messages(redis, queue)] == ["celery", "slow", "go"]


def test_signal_of_a_python_process_with_other_modules(redis: Any) -> None:
    publish_go(redis, {"reports.make": [handler("reports")]}, publisher="python")
    trigger(None, "reports.make", to=[SERVER])
    [(task, args, _, _)] = messages(redis, "reports")
    assert (task, args[6]) == (TASK, "reports")


def test_options_reach_every_queue(redis: Any) -> None:
    publish_go(redis, {"demo.hello": [handler("go")]})
    trigger_signal(None, "demo.hello", to=[SERVER], kwargs={}, countdown=60, expires=120)
    [(_, _, _, headers)] = messages(redis, "go")
    delay = datetime.fromisoformat(headers["eta"]) - datetime.now(timezone.utc)
    assert timedelta(seconds=50) < delay <= timedelta(seconds=60)
    assert headers["expires"] is not None


def test_unknown_signal_goes_nowhere(redis: Any) -> None:
    publish_go(redis, {"demo.hello": [handler("go")]})
    trigger(None, "demo.nobody", to=[SERVER])
    assert not [key for key in redis.scan_iter() if redis.type(key) == "list"]


def test_from_views(redis: Any) -> None:
    publish_go(redis, {"demo.hello": [handler("go")]})
    assert Client().get("/call/?signal=demo.hello").status_code == 200
    assert get("/async-call/?signal=demo.hello", AsyncClient()).status_code == 200
    assert len(messages(redis, "go")) == 2


def test_execution_sees_local_handlers_only(redis: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    publish_go(redis, {"shop.order": [handler("go")], "demo.hello": [handler("go")]})
    called: list[str] = []
    connection = next(found for found in REGISTERED_SIGNALS["shop.order"] if found.queue == "celery")
    monkeypatch.setattr(connection, "function", lambda window_info, **kwargs: called.append(kwargs["article"]))
    process_task("shop.order", WindowInfo().to_dict(), {"article": "7"}, to_server=True, queue="celery")
    process_task("demo.hello", WindowInfo().to_dict(), {}, to_server=True, queue="go")
    assert called == ["7"]
    assert not caplog.records


@pytest.mark.parametrize("settings", [{"DFWS_ENABLED": False}, {"DFWS_ENABLED": None}])
def test_inactive(redis: Any, settings: dict[str, Any]) -> None:
    publish_go(redis, {"demo.hello": [handler("go")], "shop.order": [handler("go")]})
    with override_settings(**settings):
        trigger(None, "demo.hello", to=[SERVER])
        trigger(None, "shop.order", to=[SERVER], article=1)
    assert not redis.exists("go")
    assert redis.exists("celery")


def test_signal_queue_works_as_before(redis: Any) -> None:
    publish_go(redis, {"demo.hello": [handler("go")], "shop.order": [handler("go")]})
    with SignalQueue() as queue:
        trigger(None, "shop.order", to=[SERVER, WINDOW], article=1)
        trigger(None, "demo.hello", to=[SERVER])
    assert set(queue.python_signals) == {"celery", "slow"}
    assert set(queue.ws_signals) == {"-window.None"}
    assert not redis.exists("celery", "go")


def test_other_worker_modes_stay_in_the_process(redis: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_go(redis, {"demo.hello": [handler("go")]})
    monkeypatch.setattr("df_websockets.ws_settings.WEBSOCKET_WORKERS", "thread")
    assert routing.remote_handlers("demo.hello", known_here=False) == []


# --- the copy of the registry ----------------------------------------------------------------------------------------


def commands(redis: Any) -> int:
    return int(redis.info("commandstats").get("cmdstat_hgetall", {"calls": 0})["calls"])


def test_registry_is_read_once_per_period(redis: Any) -> None:
    publish_go(redis, {"demo.hello": [handler("go")]})
    with override_settings(DFWS_REGISTRY_TTL=3600):
        before = commands(redis)
        for _ in range(20):
            trigger(None, "demo.hello", to=[SERVER])
        assert commands(redis) == before + 1
    assert len(messages(redis, "go")) == 20


def test_changes_are_seen_after_the_period(redis: Any) -> None:
    publish_go(redis, {"demo.hello": [handler("go")]})
    with override_settings(DFWS_REGISTRY_TTL=0.000001):
        assert "demo.hello" in routing.snapshot().signals
        redis.hset("dfws:registry", "go:demo", '{"schema": 1, "language": "go", "signals": {}}')
        assert "demo.hello" not in routing.snapshot().signals


def test_old_copy_serves_while_redis_is_away(redis: Any, redis_server: Server, caplog: pytest.LogCaptureFixture) -> None:
    publish_go(redis, {"demo.hello": [handler("go")]})
    with override_settings(DFWS_REGISTRY_TTL=0.000001):
        routing.snapshot()
        wait_until(lambda: background.pending() == 0)  # this site's own entry was missing and is published
        caplog.clear()
        redis_server.stop()
        try:
            assert [found.queue for _ in range(3) for found in routing.remote_handlers("demo.hello", False)] == ["go"] * 3
        finally:
            redis_server.start()
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["the shared registry is not up to date"]


def test_while_another_thread_reads_the_old_copy_serves(redis: Any) -> None:
    publish_go(redis, {"demo.hello": [handler("go")]})
    known = routing.snapshot()
    with override_settings(DFWS_REGISTRY_TTL=0.000001), routing._process.lock:
        assert routing.snapshot() is known


def test_forked_child_has_its_own_connection_and_locks(redis: Any) -> None:
    publish_go(redis, {"demo.hello": [handler("go")]})
    routing.snapshot()
    parent = store.client()
    with override_settings(DFWS_REGISTRY_TTL=0.000001), routing._process.lock:
        child = os.fork()
        if child == 0:
            # Only _exit from here on: the child must not run pytest's end.
            ok = [found.queue for found in routing.remote_handlers("demo.hello", False)] == ["go"] and store.client() is not parent
            os._exit(0 if ok else 1)
        _, status = os.waitpid(child, 0)
    assert status == 0


# --- queues that only another process can compute --------------------------------------------------------------------


def test_dynamic_queue_known_here_is_computed_here(redis: Any) -> None:
    registry.publish()
    routing.forget()
    trigger(None, "shop.dynamic", to=[SERVER], shard=1)
    [(task, args, _, _)] = messages(redis, "shop-1")
    assert (task, args[6]) == (TASK, "shop-1")
    assert not redis.exists("celery")


def test_dynamic_queue_of_another_process(redis: Any) -> None:
    publish_go(redis, {"reports.make": [handler(None), handler("reports")]}, publisher="python")
    trigger_signal(None, "reports.make", to=[SERVER], kwargs={"n": 1}, countdown=60, expires=120)
    [(task, args, kwargs, headers)] = messages(redis, "celery")
    assert (task, args, headers["eta"]) == (RESOLVE, [], None)
    assert {name: kwargs[name] for name in ("signal", "window_info", "opts", "from_client")} == {
        "signal": "reports.make",
        "window_info": WindowInfo().to_dict(),
        "opts": {"n": 1},
        "from_client": False,
    }
    assert {name: value["__type__"] for name, value in kwargs["options"].items()} == {"eta": "datetime", "expires": "datetime"}
    assert [args[6] for _, args, _, _ in messages(redis, "reports")] == ["reports"]


def resolve(signal: str, opts: Any = None, **options: Any) -> None:
    resolve_queues(signal=signal, window_info=WindowInfo().to_dict(), opts=opts, from_client=True, options=options)


def test_resolve_queues(redis: Any) -> None:
    resolve("shop.dynamic", {"shard": 1})
    [(task, args, _, headers)] = messages(redis, "shop-1")
    assert (task, args) == (TASK, ["shop.dynamic", WindowInfo().to_dict(), {"shard": 1}, True, [], True, "shop-1"])
    assert (headers["eta"], headers["expires"]) == (None, None)


def test_resolve_queues_leaves_out_queues_that_have_the_call_already(redis: Any) -> None:
    resolve("shop.mixed")
    assert not redis.exists("shop-0")


def test_resolve_queues_without_options_or_handlers(redis: Any, caplog: pytest.LogCaptureFixture) -> None:
    resolve("shop.dynamic", None)
    assert len(messages(redis, "shop-0")) == 1
    resolve("shop.unknown", {})
    assert "shop.unknown" in caplog.text


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("countdown", 60),
        ("eta", "2030-01-02T03:04:05Z"),
        ("eta", datetime(2030, 1, 2, 3, 4, 5, tzinfo=timezone.utc)),
        ("expires", 60.5),
        ("expires", "2030-01-02T03:04:05"),
    ],
)
def test_resolve_queues_keeps_delays(redis: Any, option: str, value: Any) -> None:
    resolve("shop.dynamic", {}, **{option: value})
    [(_, _, _, headers)] = messages(redis, "shop-0")
    at = datetime.fromisoformat(headers["eta" if option == "countdown" else option])
    if isinstance(value, (int, float)):
        assert timedelta(seconds=value - 10) < at - datetime.now(timezone.utc) <= timedelta(seconds=value)
    else:
        assert at == datetime(2030, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


def test_resolve_queues_refuses_what_is_no_time(redis: Any) -> None:
    with pytest.raises(ValueError, match=r"options\.eta"):
        resolve("shop.dynamic", {}, eta="soon")


@pytest.mark.parametrize("broker", ["amqp://h", ["redis://a"], "redis://a;redis://b"])
def test_broker_of_another_kind_changes_nothing(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, broker: Any) -> None:
    monkeypatch.setitem(_df.celery_conf().changes, "broker_url", broker)
    assert routing.remote_handlers("demo.hello", known_here=False) == []
    assert "the shared registry is not up to date: ValueError" in caplog.text


def test_view_of_the_registry_is_a_dictionary() -> None:
    from df_websockets import tasks

    view = tasks.REGISTERED_SIGNALS
    assert isinstance(view, _df.SignalsView)
    assert dict(view) == REGISTERED_SIGNALS
    assert view.get("nobody") is None
    assert view.get("nobody", []) == []
    assert "nobody" not in view
