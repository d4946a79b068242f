from __future__ import annotations

import ssl
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from kombu.transport.redis import Channel
from redis.connection import ConnectionPool, SSLConnection, UnixDomainSocketConnection

from dfws import urls
from dfws.plain import ExportError


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
        ("rediss://h/1?ssl_ca_certs=/ca.pem", {"host": "h", "db": 1, "ssl_ca_certs": "/ca.pem"}),
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


def connections(celery: Celery) -> list[dict[str, Any]]:
    """How kombu connects to each server of a broker, without doing so."""
    connection = celery.connection_for_write()
    found = []
    for number in range(max(1, len(connection.alt))):
        if number:
            connection.switch(connection.alt[number])
        channel: Any = object.__new__(Channel)
        channel.connection = SimpleNamespace(client=connection, default_port=6379)
        found.append(comparable(channel._connparams()))
    return found


def comparable(parameters: dict[str, Any]) -> dict[str, Any]:
    names = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}
    return {name: names.get(value, value) if name == "ssl_cert_reqs" else value for name, value in parameters.items()}


TLS = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_ca_certs": "/ca", "ssl_check_hostname": False}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"broker_url": "redis://h/0"}, "redis://h/0"),
        ({"broker_url": "redis://h/0", "broker_use_ssl": True}, "redis://h/0"),  # kombu makes nothing of it
        ({"broker_url": "redis://h/0", "broker_use_ssl": {}}, "redis://h/0"),
        (
            {"broker_url": "redis://:pw@h/0", "broker_use_ssl": TLS},
            "rediss://:pw@h/0?ssl_cert_reqs=required&ssl_ca_certs=%2Fca&ssl_check_hostname=false",
        ),
        ({"broker_url": "rediss://h/0?ssl_cert_reqs=none", "broker_use_ssl": TLS}, "rediss://h/0?ssl_cert_reqs=none"),
        ({"broker_url": "redis://h/0?ssl_cert_reqs=none"}, "rediss://h/0?ssl_cert_reqs=none"),
        ({"broker_url": "redis+socket:///s?virtual_host=2"}, "redis+socket:///s?virtual_host=2"),
        ({"broker_url": ["redis://a/1", "redis://b/2"]}, "redis://a/1;redis://b/2"),
        ({"broker_url": "sentinel://a/1;sentinel://b", "broker_user": "u"}, "sentinel://u@a/1;sentinel://b"),
        (
            {"broker_url": ("redis://a/1", "rediss://b/2?ssl_cert_reqs=optional"), "broker_use_ssl": {"ssl_cert_reqs": ssl.CERT_NONE}},
            "rediss://a/1?ssl_cert_reqs=none;rediss://b/2?ssl_cert_reqs=optional",
        ),
        (
            {"broker_url": "redis://h", "broker_user": "u", "broker_password": "p/w", "broker_port": 7, "broker_vhost": "/3"},
            "redis://u:p%2Fw@h:7/3",
        ),
        (
            {"broker_url": "redis://a@h:1/2", "broker_user": "u", "broker_password": "pw", "broker_port": 7, "broker_vhost": 3},
            "redis://a:pw@h:1/2",
        ),
        ({"broker_url": "redis://:pw@", "broker_port": 7}, "redis://:pw@:7"),
        ({"broker_url": "h", "broker_transport": "redis", "broker_port": 7}, "redis://h:7"),
    ],
)
def test_broker_is_the_one_that_celery_connects_to(settings: dict[str, Any], expected: str) -> None:
    celery = Celery("site", set_as_current=False)
    celery.conf.update(settings)
    url = urls.broker(celery.conf)
    assert url == expected
    exported = Celery("exported", set_as_current=False)
    exported.conf.update(broker_url=url)
    assert connections(exported) == connections(celery)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"broker_url": ["redis://a", 5]}, "broker_url"),
        ({"broker_url": []}, "broker_url"),
        ({"broker_url": "redis://h", "broker_password": print}, "broker_password is a function"),
        ({"broker_url": "redis://h", "broker_use_ssl": {"ca_certs": "/ca"}}, "broker_use_ssl: redis-py has no TLS option ca_certs"),
        ({"broker_url": "redis://h", "broker_use_ssl": {"ssl_context": object()}}, "broker_use_ssl: ssl_context is a object"),
    ],
)
def test_brokers_that_have_no_url(settings: dict[str, Any], named: str) -> None:
    celery = Celery("site", set_as_current=False)
    celery.conf.update(settings)
    with pytest.raises(ExportError, match=named):
        urls.broker(celery.conf)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"result_backend": "redis://h/1"}, "redis://h/1"),
        ({"result_backend": "redis"}, "redis:///0"),
        (
            {
                "result_backend": "redis",
                "redis_host": "::1",
                "redis_port": 7,
                "redis_db": 3,
                "redis_username": "u",
                "redis_password": "p/w",
            },
            "redis://u:p%2Fw@[::1]:7/3",
        ),
        ({"result_backend": "redis://h", "redis_host": "x", "redis_port": 7, "redis_db": 3, "redis_password": "pw"}, "redis://:pw@h:7"),
        ({"result_backend": "redis://u:pw@h:1/2", "redis_username": "x", "redis_password": "x"}, "redis://u:pw@h:1/2"),
        ({"result_backend": "redis+socket:///s", "redis_db": 3, "redis_password": "pw"}, "redis+socket://:pw@/s?virtual_host=3"),
        ({"result_backend": "redis://h/1", "redis_backend_use_ssl": TLS}, None),
        ({"result_backend": "rediss://h/1?ssl_cert_reqs=none", "redis_backend_use_ssl": TLS}, None),
        ({"result_backend": "sentinel://a:1/3;sentinel://:x@b:2/3", "redis_password": "pw"}, "sentinel://:pw@a:1/3;sentinel://:x@b:2/3"),
    ],
)
def test_result_backend_is_the_one_that_celery_connects_to(settings: dict[str, Any], expected: str | None) -> None:
    celery = Celery("site", set_as_current=False)
    celery.conf.update(settings)
    url = urls.result_backend(settings["result_backend"], celery.conf)
    if expected is not None:
        assert url == expected
    exported = Celery("exported", set_as_current=False)
    exported.conf.update(result_backend=url)
    try:
        wanted = backend(celery)
    except ValueError:
        pytest.skip("Celery before 5.7 refuses redis:// with redis_backend_use_ssl")
    assert comparable(backend(exported)) == comparable(wanted)


def backend(celery: Celery) -> dict[str, Any]:
    redis: Any = celery.backend
    parameters = dict(redis.connparams)
    parameters["ssl_check_hostname"] = str(parameters.get("ssl_check_hostname")).lower()  # a text where a URL says it
    return parameters


def test_redis_backend_use_ssl_has_to_be_a_dictionary() -> None:
    celery = Celery("site", set_as_current=False)
    celery.conf.update(redis_backend_use_ssl=True)
    with pytest.raises(ExportError, match="redis_backend_use_ssl"):
        urls.result_backend("redis://h", celery.conf)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h", True),
        ("rediss://a;redis+socket:///s", True),
        ("sentinel://a;sentinel://b", True),
        (["redis://a", "redis://b;redis://c"], True),
        ([], False),
        ("redis://a;amqp://b", False),
        ("amqp://h", False),
        ("", False),
        (None, False),
    ],
)
def test_is_redis_family(url: Any, expected: bool) -> None:
    assert urls.is_redis_family(url) is expected


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
            "rediss://h:6390/0?ssl_cert_reqs=none&ssl_ca_certs=%2Fca",
        ),
        ([{"connection_class": SSLConnection, "host": "h", "ssl_cert_reqs": "required"}], "rediss://h:6379?ssl_cert_reqs=required"),
        ([{"connection_class": UnixDomainSocketConnection, "path": "/run/redis.sock", "db": 1}], "unix:///run/redis.sock?db=1"),
    ],
)
def test_layer_hosts(hosts: Any, expected: str) -> None:
    assert urls.layer_hosts(hosts) == [{"url": expected}]


def test_layer_hosts_behind_sentinels() -> None:
    sentinels = {"sentinels": [("s1", 26379), ["::1", 26380]], "master_name": "mymaster"}
    account = {"db": 2, "username": "u", "password": "p@w", "ssl": True, "ssl_ca_certs": "/ca"}
    assert urls.layer_hosts([sentinels, {**sentinels, **account, "sentinel_kwargs": {"password": "s", "ssl": True}}]) == [
        {"url": "redis://", "sentinels": ["s1:26379", "[::1]:26380"], "master_name": "mymaster"},
        {
            "url": "rediss://u:p%40w@/2?ssl_ca_certs=%2Fca",
            "sentinels": ["s1:26379", "[::1]:26380"],
            "master_name": "mymaster",
            "sentinel_kwargs": {"password": "s", "ssl": True},
        },
    ]


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ("redis://h", "hosts is not a list"),
        ([1], "a host of type int"),
        ([("h",)], "a host of type tuple"),
        ([{"sentinels": "h", "master_name": "m"}], "sentinels that are no list of pairs of host and port"),
        ([{"sentinels": [("h", 1)], "master_name": "m", "is_master": False}], "is_master False"),
        ([{"sentinels": [("h", 1)], "master_name": "m", "retry_forever": 1}], "connection options retry_forever"),
        ([{"host": "h", "credential_provider": object, "x": 1}], "connection options credential_provider, x"),
        ([{"host": "h", "connection_class": object}], "connection_class class builtins.object"),
    ],
)
def test_layer_hosts_that_are_not_supported(hosts: Any, expected: str) -> None:
    assert urls.layer_hosts(hosts) == [{"unsupported": expected}]
