from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import RedisError

from dfws import _df, registry, store
from tests import settings
from tests.conftest import Server, entry_of, wait_until


@pytest.fixture
def celery(monkeypatch: pytest.MonkeyPatch) -> Any:
    def change(**values: Any) -> None:
        for name, value in values.items():
            monkeypatch.setitem(_df.celery_application().conf.changes, name, value)

    return change


@pytest.fixture
def sentinel(redis_server: Server, tmp_path: Path) -> Iterator[int]:
    """A real Sentinel that watches the Redis of the tests; its port."""
    executable = shutil.which("redis-server")
    assert executable is not None
    port = settings.free_port()
    config = tmp_path / "sentinel.conf"
    config.write_text(f"port {port}\nbind 127.0.0.1\nsentinel monitor shop 127.0.0.1 {settings.REDIS_PORT} 1\n")
    process = subprocess.Popen([executable, str(config), "--sentinel", "--dir", str(tmp_path)], stdout=subprocess.DEVNULL)
    connection: Any = Redis(port=port)

    def knows() -> bool:
        try:
            return bool(connection.execute_command("SENTINEL", "CKQUORUM", "shop"))
        except RedisError:
            return False

    try:
        wait_until(knows)
        yield port
    finally:
        connection.close()
        process.terminate()
        process.wait(10)


def test_registry_behind_sentinels(redis: Any, sentinel: int, celery: Any) -> None:
    nobody = settings.free_port()
    celery(
        broker_url=f"sentinel://127.0.0.1:{nobody}/0;sentinel://127.0.0.1:{sentinel}/0",
        broker_transport_options={"master_name": "shop", "sentinel_kwargs": {"client_name": "shim"}},
    )
    assert registry.publish()
    assert entry_of(redis)["publisher"] == "python"
    store.client().close()


def test_what_the_master_is_connected_with(celery: Any) -> None:
    celery(
        broker_url="sentinel://u:p%2Fw@h/3;sentinel://i",
        broker_transport_options={"master_name": "shop"},
        broker_use_ssl={"ssl_cert_reqs": ssl.CERT_NONE},
    )
    pool = store.client().connection_pool
    assert {name: pool.connection_kwargs[name] for name in ("username", "password", "db", "socket_timeout", "ssl_cert_reqs")} == {
        "username": "u",
        "password": "p/w",
        "db": 3,
        "socket_timeout": 1.0,
        "ssl_cert_reqs": ssl.CERT_NONE,
    }
    sentinels = pool.sentinel_manager.sentinels  # type: ignore[attr-defined]  # of redis.sentinel.SentinelConnectionPool
    addresses = [
        (client.connection_pool.connection_kwargs["host"], client.connection_pool.connection_kwargs["port"]) for client in sentinels
    ]
    assert addresses == [("h", 26379), ("i", 26379)]
    assert "SSL" in pool.connection_class.__name__


def test_master_without_a_name(celery: Any) -> None:
    celery(broker_url="sentinel://h")
    with pytest.raises(ValueError, match="master_name"):
        store.client()
