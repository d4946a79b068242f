"""A real redis-server for the whole run, emptied between tests."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from celery import Celery
from django.contrib.auth import get_user_model
from django.http.response import HttpResponseBase
from django.test import AsyncClient
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from dfws import _df, apps, background, registry, routing, store
from tests import settings, views

ROOT = Path(__file__).resolve().parent.parent


class Server:
    """The redis-server of the tests."""

    def __init__(self, executable: str, folder: Path) -> None:
        self._arguments = [executable, "--port", str(settings.REDIS_PORT), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._arguments, stdout=subprocess.DEVNULL)
        connection = Redis(port=settings.REDIS_PORT)
        deadline = time.monotonic() + 10
        while True:
            try:
                connection.ping()
            except RedisConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                connection.close()
                return

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    executable = shutil.which("redis-server")
    if executable is None:
        if "redis" in os.environ.get("DFWS_REQUIRE", ""):
            pytest.fail("redis-server is required (DFWS_REQUIRE) and not installed")
        pytest.skip("redis-server is not installed")
    server = Server(executable, tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


def pytest_configure() -> None:
    """Load Celery as a serving process does: before pytest looks at a task, which would bind it to a Celery application of no use.

    Its settings are kept, because override_settings hides them: df_websockets moves them to lower-case names in the Django settings.
    """
    conf = _df.celery_application().conf
    conf.update(broker_url=conf.broker_url, result_backend=conf.result_backend)
    _df.import_handlers()


@pytest.fixture(autouse=True)
def redis(redis_server: Server) -> Iterator[Any]:
    """The broker's database, empty; and a process that knows nothing."""
    connection = Redis(port=settings.REDIS_PORT, decode_responses=True)
    connection.flushall()
    store._forget_parent()
    routing.forget()
    routing._process.snapshot = registry.EMPTY
    registry._process.errbacks = None
    apps._published_by.clear()
    yield connection
    wait_until(lambda: background.pending() == 0)
    connection.close()


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Celery:
    """The site's Celery application as a worker has it: with all its tasks, and without waiting for results."""
    found: Celery = _df.celery_application()
    found.loader.import_default_modules()
    monkeypatch.setattr(found.backend, "on_task_call", lambda *_: None)
    monkeypatch.setattr(found.backend, "add_pending_result", lambda result, **_: result)
    return found


@pytest.fixture
def journal(redis: Any) -> Iterator[Callable[[int], list[dict[str, Any]]]]:
    """Read what the shop's tasks wrote down, as soon as it is so much."""
    connection: Any = Redis(port=settings.REDIS_PORT, db=4, decode_responses=True)

    def read(count: int) -> list[dict[str, Any]]:
        wait_until(lambda: connection.llen("shop:journal") >= count, 30)
        found = [json.loads(text) for text in connection.lrange("shop:journal", 0, -1)]
        connection.delete("shop:journal")
        return found

    yield read
    connection.close()


@pytest.fixture
def alice(db: None) -> Any:
    return get_user_model().objects.create_user("alice", password=views.PASSWORD)


def get(path: str, client: AsyncClient) -> HttpResponseBase:
    """Ask a site under ASGI."""

    async def ask() -> HttpResponseBase:
        return await client.get(path)

    return async_to_sync(ask)()


def wait_until(condition: Any, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.01)


def publish_go(redis: Any, signals: dict[str, Any], *, default_queue: str = "go", publisher: str = "go:demo") -> None:
    """Write the registry's entry of another program, as a Go worker does."""
    entry = {
        "schema": 1,
        "publisher": publisher,
        "language": "go" if publisher.startswith("go:") else "python",
        "app": "demo",
        "digest": "0" * 64,
        "published_at": 1.0,
        "host": "h",
        "pid": 1,
        "default_queue": default_queue,
        "signals": signals,
    }
    redis.hset("dfws:registry", publisher, json.dumps(entry))
    routing.forget()


def entry_of(redis: Any) -> Any:
    """Read this site's entry of the registry."""
    return json.loads(redis.hget("dfws:registry", "python"))


def handler(queue: str | None, allow: str = "everyone") -> dict[str, Any]:
    return {
        "handler": "main.hello",
        "queue": queue,
        "dynamic": queue is None,
        "queues": [queue] if queue else [],
        "allow": allow,
        "arguments": {"required": [], "optional": [], "any": True},
    }


def messages(redis: Any, queue: str) -> list[tuple[str, list[Any], dict[str, Any], dict[str, Any]]]:
    """Name, args, kwargs and headers of the tasks in a queue, oldest first."""
    found = []
    for text in reversed(redis.lrange(queue, 0, -1)):
        envelope = json.loads(text)
        args, kwargs, _ = json.loads(base64.b64decode(envelope["body"]))
        found.append((envelope["headers"]["task"], args, kwargs, envelope["headers"]))
    return found


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python as a program of its own, with the settings of the site under test."""
    return subprocess.run(
        [sys.executable, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONPATH": str(ROOT), **environment},
    )


def manage(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run manage.py of the site under test."""
    return run("-m", "django", *arguments, **environment)
