"""WEBSOCKET_WORKERS = "channels": calls of signals go over the channel layer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from channels.layers import channel_layers, get_channel_layer
from df_websockets import tasks
from df_websockets.decorators import everyone, signal
from df_websockets.tasks import SERVER, WINDOW, trigger, trigger_signal
from df_websockets.testing import SignalQueue
from df_websockets.utils import valid_topic_name
from df_websockets.window_info import WindowInfo
from django.test import override_settings

from dfws import _df

LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}


@pytest.fixture(autouse=True)
def channels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("df_websockets.ws_settings.WEBSOCKET_WORKERS", _df.WORKERS_CHANNELS)
    with override_settings(CHANNEL_LAYERS=LAYERS):
        channel_layers.backends.clear()
        yield
    channel_layers.backends.clear()


def window() -> Any:
    info = WindowInfo()
    info.window_key = "key"
    return info


def handler(window_info: Any, value: int = 0) -> None: ...


for queue_name in ("one", "two"):
    signal(handler, path="channels.test", queue=queue_name, is_allowed_to=everyone)


def receive(channel: str) -> Any:
    async def one() -> Any:
        return await asyncio.wait_for(get_channel_layer().receive(channel), 5)

    return async_to_sync(one)()


def arguments(queue: str) -> list[Any]:
    message = receive(queue)
    assert message["type"] == "process.signal"
    return list(message["args"])


def test_call_reaches_every_queue() -> None:
    trigger(window(), "channels.test", to=[SERVER], value=3)
    for queue in ("one", "two"):
        name, info, kwargs, from_client, topics, to_server, on = arguments(queue)
        assert (name, kwargs, from_client, topics, to_server, on) == ("channels.test", {"value": 3}, False, [], True, queue)
        assert info["window_key"] == "key"


def test_call_from_an_event_loop() -> None:
    async def view() -> None:
        await tasks._trigger_signal_async(window(), "channels.test", to=[SERVER], kwargs={"value": 4})

    asyncio.run(view())
    assert arguments("one")[2] == {"value": 4}


def test_servers_come_before_windows() -> None:
    order: list[str] = []
    layer = get_channel_layer()

    async def send(channel: str, message: Any) -> None:
        order.append(channel)

    async def group_send(group: str, message: Any) -> None:
        order.append(group)

    layer.send, layer.group_send = send, group_send
    trigger(window(), "channels.test", to=[WINDOW, SERVER], value=5)
    assert sorted(order[:2]) == ["one", "two"]
    assert order[2:] == [valid_topic_name("-window.key")]


def test_error_of_the_layer_is_raised() -> None:
    layer = get_channel_layer()

    async def send(channel: str, message: Any) -> None:
        raise ConnectionError("away")

    layer.send = send
    with pytest.raises(ConnectionError, match="away"):
        trigger(window(), "channels.test", to=[SERVER])
    assert _df._calls.get() is None


def test_delays_are_refused() -> None:
    with pytest.raises(ValueError, match="Celery"):
        trigger_signal(window(), "channels.test", to=[SERVER], countdown=3)


def test_signal_queue_keeps_the_calls() -> None:
    with SignalQueue() as queue:
        trigger(window(), "channels.test", to=[SERVER, WINDOW], value=6)
    assert set(queue.python_signals) == {"one", "two"}
    assert "-window.key" in queue.ws_signals
