"""URLs of Redis: kombu's dialect, redis-py's dialect, and the hosts of a channel layer."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from dfws.plain import ExportError, describe, plain, unsupported

# kombu.transport.redis: names of ssl_cert_reqs in a URL, beside redis-py's own.
_CERT_REQS: Final = {"CERT_REQUIRED": "required", "CERT_OPTIONAL": "optional", "CERT_NONE": "none"}
_TCP_SCHEMES: Final = ("redis", "rediss")
_SOCKET_SCHEMES: Final = ("redis+socket", "socket")
_SENTINEL: Final = "sentinel"

# Connection options of a channel layer host that only tune the Python client; the Go side has its own.
_TUNING: Final = frozenset(
    {
        "client_name",
        "decode_responses",
        "encoding",
        "encoding_errors",
        "health_check_interval",
        "lib_name",
        "lib_version",
        "max_connections",
        "protocol",
        "retry",
        "retry_on_error",
        "retry_on_timeout",
        "socket_connect_timeout",
        "socket_keepalive",
        "socket_keepalive_options",
        "socket_read_size",
        "socket_timeout",
        "timeout",
    }
)
_TLS: Final = (
    "ssl_cert_reqs",
    "ssl_ca_certs",
    "ssl_ca_data",
    "ssl_ca_path",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_check_hostname",
    "ssl_min_version",
)
# The schemes of redis-py's classes of connections (redis.asyncio.connection), which a host may name instead of a URL.
_CLASSES: Final = {"Connection": "redis", "SSLConnection": "rediss", "UnixDomainSocketConnection": "unix"}


def scheme(url: object) -> str:
    """Return the scheme of a broker URL, in lower case; empty when it is no single URL."""
    return urlsplit(url).scheme.lower() if isinstance(url, str) and ";" not in url else ""


def is_redis(url: object) -> bool:
    """Tell whether a broker URL names one Redis server, in a form that the Go side reads as well."""
    return scheme(url) in (*_TCP_SCHEMES, *_SOCKET_SCHEMES)


def is_redis_family(url: object) -> bool:
    """Tell whether a broker URL names Redis: one server, a failover list, or sentinels."""
    if isinstance(url, (list, tuple)):
        return bool(url) and all(is_redis_family(part) for part in url)
    if not isinstance(url, str) or not url:
        return False
    return all(scheme(part) in (*_TCP_SCHEMES, *_SOCKET_SCHEMES, _SENTINEL) for part in url.split(";"))


def is_sentinel(url: object) -> bool:
    """Tell whether a broker URL names Sentinels."""
    return isinstance(url, str) and bool(url) and all(scheme(part) == _SENTINEL for part in url.split(";"))


def broker(celery: Any) -> str:
    """Return the broker's URL as kombu's Connection understands Celery's settings; a failover list as ``a;b``.

    ``broker_user`` and its like complete the first URL of a list (celery.app.base.Celery._connection). ``broker_use_ssl`` goes into each
    URL of a server that has no TLS options of its own.
    """
    value = celery.broker_write_url
    parts = value if isinstance(value, (list, tuple)) else [value]
    if not parts or not all(isinstance(part, str) for part in parts):
        raise ExportError("broker_url is no URL and no list of URLs.")
    first, *others = ";".join(parts).split(";")
    if "://" not in first and celery.broker_transport:
        first = f"{celery.broker_transport}://{first}"
    first = _complete(
        first,
        "broker",
        user=celery.broker_user,
        password=celery.broker_password,
        port=celery.broker_port,
        path=celery.broker_vhost,
    )
    return ";".join(_broker_tls(part, celery.broker_use_ssl) for part in (first, *others))


def _broker_tls(url: str, options: Any) -> str:
    """Write ``broker_use_ssl`` into a URL. kombu takes TLS options of a URL instead of the setting's, and makes nothing of ``True``."""
    parts = urlsplit(url)
    if any(name.startswith("ssl_") for name, _ in parse_qsl(parts.query)):
        return _join("rediss", parts.netloc, parts.path, dict(parse_qsl(parts.query))) if parts.scheme == "redis" else url
    return _with_tls(url, "broker_use_ssl", options) if isinstance(options, Mapping) else url


def result_backend(url: str, celery: Any) -> str:
    """Return the URL of a result backend in Redis, completed with the ``redis_…`` settings (celery.backends.redis.RedisBackend)."""
    options = celery.redis_backend_use_ssl
    if options and not isinstance(options, Mapping):
        raise ExportError("redis_backend_use_ssl is no dictionary, which Celery's Redis backend refuses.")
    if "://" not in url:
        url = f"{url}:///{celery.redis_db or 0}"
    return ";".join(_result_url(part, celery, options or {}) for part in url.split(";"))


def _result_url(url: str, celery: Any, options: Mapping[str, Any]) -> str:
    if urlsplit(url).scheme in _SOCKET_SCHEMES:
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query))
        if celery.redis_db:
            query.setdefault("virtual_host", str(celery.redis_db))
        url = _join(parts.scheme, parts.netloc, parts.path, query)
    url = _complete(
        url,
        "redis",
        user=celery.get("redis_username"),
        password=celery.redis_password,
        host=celery.redis_host,
        port=celery.redis_port,
    )
    return _with_tls(url, "redis_backend_use_ssl", options)


def _complete(
    url: str, namespace: str, *, user: Any = None, password: Any = None, host: Any = None, port: Any = None, path: Any = None
) -> str:
    """Fill in what a URL leaves open."""
    parts = urlsplit(url)
    known = parts.scheme in (*_TCP_SCHEMES, *_SOCKET_SCHEMES, _SENTINEL)
    if not known or not any((user, password, host, port, path)):
        return url
    if callable(password):
        raise ExportError(f"{namespace}_password is a function, which only Python can call.")
    userinfo, _, address = parts.netloc.rpartition("@")
    name, separator, secret = userinfo.partition(":")
    if not name and user:
        name = quote(str(user), safe="")
    if not secret and password:
        separator, secret = ":", quote(str(password), safe="")
    if parts.scheme not in _SOCKET_SCHEMES:
        if not parts.hostname and host:
            address = _address(host, parts.port or port or 6379)
        elif parts.port is None and port:
            address = f"{address.removesuffix(':')}:{port}"
    netloc = f"{name}{separator}{secret}@{address}" if name or secret else address
    database = parts.path
    if not database.strip("/") and path and parts.scheme not in _SOCKET_SCHEMES:
        database = f"/{str(path).strip('/')}"
    return _join(parts.scheme, netloc, database, dict(parse_qsl(parts.query)))


def _with_tls(url: str, setting: str, options: Mapping[str, Any]) -> str:
    """Write the options of TLS into a URL, where redis:// becomes rediss://; what the URL says itself wins. A Sentinel's has none."""
    parts = urlsplit(url)
    if not options or parts.scheme not in _TCP_SCHEMES:
        return url
    query = dict(parse_qsl(parts.query))
    for name, value in options.items():
        if not str(name).startswith("ssl_"):
            raise ExportError(f"{setting}: redis-py has no TLS option {name}.")
        if value is not None:
            query.setdefault(str(name), _tls_value(value, f"{setting}: {name}"))
    return _join("rediss", parts.netloc, parts.path, query)


def for_redis_py(url: str) -> str:
    """Translate a broker URL of kombu, without changing what it means.

    kombu does not verify certificates where a URL has no options of TLS at all; redis-py does. A site whose broker works must keep working.
    """
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    if parts.scheme in _SOCKET_SCHEMES:
        query = {"db": query.get("virtual_host", "0").strip("/") or "0"}
        return _join("unix", parts.netloc, parts.path, query)
    if parts.scheme == "rediss" and not any(name.startswith("ssl_") for name in query):
        query["ssl_cert_reqs"] = "none"
    if "ssl_cert_reqs" in query:
        query["ssl_cert_reqs"] = _CERT_REQS.get(query["ssl_cert_reqs"], query["ssl_cert_reqs"])
    netloc = parts.netloc if parts.hostname else f"{parts.netloc}127.0.0.1"
    return _join(parts.scheme, netloc, "/" + parts.path.strip("/"), query)


def layer_hosts(hosts: Any) -> list[dict[str, Any]]:
    """Normalize ``hosts`` of a channels_redis layer: ``{"url": …}`` each, or ``{"unsupported": …}`` with the reason.

    A host behind Sentinels has ``sentinels``, ``master_name`` and perhaps ``sentinel_kwargs``, too; its URL says the database, the
    account and the options of TLS.
    """
    if not hosts:
        return [{"url": "redis://localhost:6379"}]
    if isinstance(hosts, (str, bytes)) or not isinstance(hosts, Iterable):
        return [unsupported("hosts is not a list")]
    return [_layer_host(host) for host in hosts]


def _layer_host(host: Any) -> dict[str, Any]:
    if isinstance(host, str):
        return {"url": host}
    if isinstance(host, (list, tuple)) and len(host) >= 2:
        return {"url": f"redis://{_address(host[0], host[1])}/0"}  # further elements are ignored by channels_redis too
    if not isinstance(host, Mapping):
        return unsupported(f"a host of type {type(host).__name__}")
    if "address" not in host and host.get("master_name") is not None:  # as channels_redis.utils.create_pool looks for them
        return _sentinels(host)
    return _described(host) or {"url": _host_url(host)}


def _sentinels(host: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a host behind Sentinels (redis.asyncio.sentinel.SentinelConnectionPool)."""
    sentinels = host.get("sentinels")
    if not isinstance(sentinels, (list, tuple)) or not all(isinstance(one, (list, tuple)) and len(one) == 2 for one in sentinels):
        return unsupported("sentinels that are no list of pairs of host and port")
    own = {"sentinels", "master_name", "sentinel_kwargs", "ssl", "is_master", "check_connection"}
    connection = {name: value for name, value in host.items() if name not in own}
    if problem := _described(connection):
        return problem
    if not host.get("is_master", True):
        return unsupported("is_master False")
    described: dict[str, Any] = {
        "url": _host_url({**connection, "address": "rediss://" if host.get("ssl") else "redis://"}),
        "sentinels": [_address(name, port) for name, port in sentinels],
        "master_name": str(host["master_name"]),
    }
    if host.get("sentinel_kwargs"):
        described["sentinel_kwargs"] = plain("CHANNEL_LAYERS: sentinel_kwargs", host["sentinel_kwargs"])
    return described


def _described(host: Mapping[str, Any]) -> dict[str, Any] | None:
    """Say what of a host the Go side cannot have; None for nothing."""
    known = {"address", "connection_class", "host", "path", "port", "db", "username", "password", *_TLS, *_TUNING}
    unknown = sorted(str(name) for name in host if name not in known)
    if unknown:
        return unsupported(f"connection options {', '.join(unknown)}")
    if "connection_class" in host and getattr(host["connection_class"], "__name__", "") not in _CLASSES:
        return unsupported(f"connection_class {describe(host['connection_class'])}")
    return None


def cache_server(location: str, options: Mapping[str, Any]) -> dict[str, str]:
    """Normalize a server of a cache in Redis: ``{"url": …}``, or ``{"unsupported": …}`` with the reason."""
    return _layer_host({**options, "address": location})


def _host_url(host: Mapping[str, Any]) -> str:
    """Merge a host's address with its keywords; what the address says wins (redis-py's ConnectionPool.from_url)."""
    parts = urlsplit(host.get("address") or _class_url(host))
    query = dict(parse_qsl(parts.query))
    netloc, path = parts.netloc, parts.path
    username, password = parts.username or host.get("username"), parts.password or host.get("password")
    if username or password:
        secret = "" if password is None else f":{_userinfo(password, parts.password)}"
        netloc = f"{_userinfo(username or '', parts.username)}{secret}@{netloc.rpartition('@')[2]}"
    if host.get("db") is not None:
        if parts.scheme == "unix":
            query.setdefault("db", str(host["db"]))
        elif path.strip("/") == "" and "db" not in query:
            path = f"/{host['db']}"
    if parts.scheme == "rediss":
        if "ssl_cert_reqs" in host and host["ssl_cert_reqs"] is None:
            query.setdefault("ssl_cert_reqs", "none")  # redis.asyncio.connection.RedisSSLContext
        for name in _TLS:
            if host.get(name) is not None:
                query.setdefault(name, _tls_value(host[name], f"CHANNEL_LAYERS: {name}"))
    return _join(parts.scheme, netloc, path, query)


def _class_url(host: Mapping[str, Any]) -> str:
    """Write a URL for a host that has none."""
    scheme = _CLASSES[getattr(host.get("connection_class"), "__name__", "Connection")]
    if scheme == "unix":
        return f"unix://{host.get('path', '')}"
    return f"{scheme}://{_address(host.get('host', 'localhost'), host.get('port', 6379))}"


def _join(scheme: str, netloc: str, path: str, query: Mapping[str, str]) -> str:
    """Write a URL; urlunsplit leaves out the slashes where a socket has no host."""
    return f"{scheme}://{netloc}{path}{'?' if query else ''}{urlencode(query)}"


def _userinfo(text: Any, from_url: str | None) -> str:
    """Quote a name or password for a URL; what came out of one is quoted already."""
    return str(text) if from_url is not None and text == from_url else quote(str(text), safe="")


def _address(host: object, port: object) -> str:
    name = str(host)
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def _tls_value(value: Any, setting: str) -> str:
    if isinstance(value, ssl.VerifyMode):
        return value.name.removeprefix("CERT_").lower()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, os.PathLike)):
        return str(int(value)) if isinstance(value, int) else os.fsdecode(value)
    if not isinstance(value, str):
        raise ExportError(f"{setting} is a {type(value).__name__}, which has no place in a URL.")
    return _CERT_REQS.get(value, value)
