from __future__ import annotations

import threading

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from dfws import background
from tests.conftest import wait_until


def test_retries_until_redis_takes_it(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(background, "FIRST_PAUSE", 0.001)
    tries: list[int] = []

    def job() -> None:
        tries.append(1)
        if len(tries) < 4:
            raise RedisConnectionError("redis://:secret@h")

    background.submit("registry", job)
    wait_until(lambda: background.pending() == 0)
    assert len(tries) == 4
    assert [record.getMessage() for record in caplog.records] == ["registry waits for Redis: ConnectionError"]


def test_newer_job_replaces_its_namesake() -> None:
    done: list[str] = []
    gate, started = threading.Event(), threading.Event()

    def wait() -> None:
        started.set()
        gate.wait(10)

    background.submit("first", wait)
    assert started.wait(10)
    background.submit("registry", lambda: done.append("old"))
    background.submit("registry", lambda: done.append("new"))
    assert background.pending() == 2
    gate.set()
    wait_until(lambda: background.pending() == 0)
    assert done == ["new"]


def test_defects_neither_end_the_thread_nor_repeat(caplog: pytest.LogCaptureFixture) -> None:
    done: list[str] = []
    background.submit("defect", lambda: 1 / 0)
    background.submit("registry", lambda: done.append("done"))
    wait_until(lambda: background.pending() == 0)
    assert done == ["done"]
    assert "defect failed" in caplog.text


def test_bounded(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(background, "MOST_JOBS", 2)
    done: list[int] = []
    gate, started = threading.Event(), threading.Event()

    def wait() -> None:
        started.set()
        gate.wait(10)

    background.submit("revocation:secret", wait)
    assert started.wait(10)
    for number in range(2):
        background.submit(f"revocation:{number}", lambda number=number: done.append(number))  # type: ignore[misc]
    gate.set()
    wait_until(lambda: background.pending() == 0)
    assert done == [0, 1]
    assert "revocation is lost" in caplog.text
    assert "secret" not in caplog.text
