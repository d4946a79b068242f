from __future__ import annotations

import ssl
from typing import Any

import pytest
from redis.connection import ConnectionPool, SSLConnection, UnixDomainSocketConnection

from dfws import urls


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://", {"host": "127.0.0.1"}),
        ("redis:///3", {"host": "127.0.0.1", "db": 3}),
        ("redis://h:1234//2", {"host": "h", "port": 1234, "db": 2}),
        ("redis://:p%40w@h/3", {"host": "h", "password": "p@w", "db": 3}),
        ("redis://user:pw@[::1]:6379/0", {"host": "::1", "port": 6379, "username": "user", "password": "pw", "db": 0}),
        ("rediss://h:6380/1", {"host": "h", "port": 6380, "db": 1, "ssl_cert_reqs": "none"}),
        (
            "rediss://h/1?ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs=/ca.pem",
            {"host": "h", "db": 1, "ssl_cert_reqs": "required", "ssl_ca_certs": "/ca.pem"},
        ),
        ("redis+socket:///run/redis.sock?virtual_host=5", {"path": "/run/redis.sock", "db": 5}),
        ("redis+socket://:pw@/run/redis.sock", {"path": "/run/redis.sock", "password": "pw", "db": 0}),
    ],
)
def test_broker_url_for_redis_py(url: str, expected: dict[str, Any]) -> None:
    pool = ConnectionPool.from_url(urls.for_redis_py(url))
    assert pool.connection_kwargs == expected
    if url.startswith("rediss"):
        assert pool.connection_class is SSLConnection
    if url.startswith("redis+socket"):
        assert pool.connection_class is UnixDomainSocketConnection


@pytest.mark.parametrize(
    ("url", "options", "expected"),
    [
        ("redis://h/0", None, "redis://h/0"),
        ("redis://h/0", False, "redis://h/0"),
        ("redis://h/0", True, "rediss://h/0"),
        (
            "redis://:pw@h/0",
            {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_ca_certs": "/ca"},
            "rediss://:pw@h/0?ssl_cert_reqs=required&ssl_ca_certs=%2Fca",
        ),
        ("rediss://h/0?ssl_cert_reqs=none", {"ssl_cert_reqs": "required"}, "rediss://h/0?ssl_cert_reqs=none"),
        ("redis+socket:///s", {"ssl_cert_reqs": "required"}, "redis+socket:///s"),
    ],
)
def test_celery_tls_options(url: str, options: Any, expected: str) -> None:
    assert urls.with_tls(url, options) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h", True),
        ("rediss://h", True),
        ("redis+socket:///s", True),
        ("sentinel://h:26379", False),
        ("amqp://h", False),
        ("redis://a;redis://b", False),
        (["redis://a"], False),
        (None, False),
    ],
)
def test_is_redis(url: Any, expected: bool) -> None:
    assert urls.is_redis(url) is expected


# The forms of channels_redis.utils.decode_hosts; what each means was read off redis-py's connection pools.
@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        (None, "redis://localhost:6379"),
        ([], "redis://localhost:6379"),
        (["redis://user:pw@127.0.0.1:6390/3"], "redis://user:pw@127.0.0.1:6390/3"),
        (["unix:///run/redis.sock?db=2"], "unix:///run/redis.sock?db=2"),
        ([("127.0.0.1", 6390)], "redis://127.0.0.1:6390/0"),
        ([["127.0.0.1", 6390, 3]], "redis://127.0.0.1:6390/0"),
        ([("::1", 6390)], "redis://[::1]:6390/0"),
        ([{"host": "127.0.0.1", "port": 6390, "db": 4, "password": "p/w"}], "redis://:p%2Fw@127.0.0.1:6390/4"),
        ([{"host": "h", "username": "u", "password": "pw"}], "redis://u:pw@h:6379"),
        ([{"address": "redis://127.0.0.1:6390/3", "db": 5, "password": None, "socket_timeout": None}], "redis://127.0.0.1:6390/3"),
        ([{"address": "redis://:p%40w@127.0.0.1:6390/3", "password": "other"}], "redis://:p%40w@127.0.0.1:6390/3"),
        ([{"address": "redis://127.0.0.1:6390", "db": 5}], "redis://127.0.0.1:6390/5"),
        ([{"address": "redis://127.0.0.1:6390?db=1", "db": 5}], "redis://127.0.0.1:6390?db=1"),
        ([{"address": "unix:///s", "db": 5, "password": "pw"}], "unix://:pw@/s?db=5"),
        (
            [{"address": "rediss://h:6390/0", "ssl_cert_reqs": None, "ssl_ca_certs": "/ca"}],
            "rediss://h:6390/0?ssl_ca_certs=%2Fca",
        ),
    ],
)
def test_layer_hosts(hosts: Any, expected: str) -> None:
    assert urls.layer_hosts(hosts) == [{"url": expected}]


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ("redis://h", "hosts is not a list"),
        ([1], "a host of type int"),
        ([("h",)], "a host of type tuple"),
        ([{"sentinels": [("h", 26379)], "master_name": "m"}], "Sentinel (sentinels, master_name)"),
        (
            [{"host": "h", "connection_class": object, "credential_provider": object}],
            "connection options connection_class, credential_provider",
        ),
    ],
)
def test_layer_hosts_that_are_not_supported(hosts: Any, expected: str) -> None:
    assert urls.layer_hosts(hosts) == [{"unsupported": expected}]
