"""Real channels_redis layers in a process of their own, driven by JSON lines.

Each request is one line ``{"id": 1, "op": "...", "layer": 1, ...}`` on stdin, each answer one line
``{"id": 1, "ok": ...}`` or ``{"id": 1, "error": "Type", "text": "..."}`` on stdout, in any order: requests
run side by side, so that a ``receive`` can wait while others send.

Bytes travel as ``{"__bytes__": "<base64>"}``; a dictionary with that one key cannot be expressed otherwise.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

from django.conf import settings

settings.configure()

from channels_redis.core import RedisChannelLayer  # noqa: E402  (needs the settings)
from channels_redis.pubsub import RedisPubSubChannelLayer  # noqa: E402

Request = dict[str, Any]
Layer = RedisChannelLayer | RedisPubSubChannelLayer


def to_wire(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"__bytes__": base64.b64encode(value).decode()}
    if isinstance(value, list | tuple):
        return [to_wire(v) for v in value]
    if isinstance(value, dict):
        return {k: to_wire(v) for k, v in value.items()}
    return value


def from_wire(value: Any) -> Any:
    if isinstance(value, list):
        return [from_wire(v) for v in value]
    if isinstance(value, dict):
        if set(value) == {"__bytes__"}:
            return base64.b64decode(value["__bytes__"])
        return {k: from_wire(v) for k, v in value.items()}
    return value


class Peer:
    def __init__(self) -> None:
        self.layers: dict[int, Layer] = {}
        self.receiving: dict[int, set[asyncio.Task[Any]]] = {}

    def layer(self, request: Request) -> Layer:
        return self.layers[request["layer"]]

    async def versions(self, request: Request) -> dict[str, str]:
        return {name: version(name) for name in ("channels", "channels_redis", "redis", "msgpack")}

    async def open(self, request: Request) -> str:
        kinds = {"core": RedisChannelLayer, "pubsub": RedisPubSubChannelLayer}
        layer = kinds[request["kind"]](**request["config"])
        self.layers[request["layer"]] = layer
        self.receiving[request["layer"]] = set()
        return layer.client_prefix if isinstance(layer, RedisChannelLayer) else ""

    async def close(self, request: Request) -> None:
        for task in list(self.receiving.pop(request["layer"])):
            task.cancel()
        layer = self.layers.pop(request["layer"])
        await (layer.close_pools() if isinstance(layer, RedisChannelLayer) else layer.flush())

    async def new_channel(self, request: Request) -> str:
        layer = self.layer(request)
        return await (layer.new_channel(request["prefix"]) if request["prefix"] else layer.new_channel())

    async def send(self, request: Request) -> None:
        await self.layer(request).send(request["channel"], from_wire(request["message"]))

    async def group_send(self, request: Request) -> None:
        await self.layer(request).group_send(request["group"], from_wire(request["message"]))

    async def group_add(self, request: Request) -> None:
        await self.layer(request).group_add(request["group"], request["channel"])

    async def group_discard(self, request: Request) -> None:
        await self.layer(request).group_discard(request["group"], request["channel"])

    async def flush(self, request: Request) -> None:
        await self.layer(request).flush()

    async def receive(self, request: Request) -> Any:
        task = asyncio.ensure_future(self.layer(request).receive(request["channel"]))
        tasks = self.receiving[request["layer"]]
        tasks.add(task)
        task.set_name(str(request["id"]))
        try:
            return to_wire(await task)
        finally:
            tasks.discard(task)

    async def cancel(self, request: Request) -> None:
        """Cancel the receive whose id is "target", as a consumer that goes away does."""
        for task in self.receiving[request["layer"]]:
            if task.get_name() == str(request["target"]):
                task.cancel()


def answer(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


async def run(operation: Callable[[Request], Awaitable[Any]], request: Request) -> None:
    try:
        answer({"id": request["id"], "ok": await operation(request)})
    except asyncio.CancelledError:
        answer({"id": request["id"], "error": "CancelledError", "text": ""})
    except Exception as error:  # the other side decides what to make of it
        answer({"id": request["id"], "error": type(error).__name__, "text": str(error)})


async def main() -> None:
    peer = Peer()
    reader = asyncio.StreamReader(limit=64 * 1024 * 1024)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    running: set[asyncio.Task[None]] = set()
    while line := await reader.readline():
        request: Request = json.loads(line)
        task = asyncio.ensure_future(run(getattr(peer, request["op"]), request))
        running.add(task)
        task.add_done_callback(running.discard)


asyncio.run(main())
