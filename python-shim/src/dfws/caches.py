"""Caches of the site as Go reads them: where the entries are, under which names, and in which form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from django.core.cache import InvalidCacheBackendError, caches
from django.core.cache.backends.base import default_key_func
from django.db import router
from django.utils.module_loading import import_string

from dfws import urls
from dfws.plain import describe as describe_value
from dfws.plain import unsupported

# What of pymemcache.client.hash.HashClient concerns the Python client alone.
_MEMCACHED_TUNING: Final = frozenset(
    {
        "allow_unicode_keys",
        "connect_timeout",
        "dead_timeout",
        "default_noreply",
        "encoding",
        "ignore_exc",
        "lock_generator",
        "max_pool_size",
        "no_delay",
        "pool_idle_timeout",
        "retry_attempts",
        "retry_timeout",
        "socket_keepalive",
        "timeout",
        "use_pooling",
    }
)
_REDIS_POOLS: Final = tuple(f"redis.{module}{kind}ConnectionPool" for module in ("", "connection.") for kind in ("", "Blocking"))
_SERIALIZERS: Final = {
    "django_redis.serializers.pickle.PickleSerializer": "pickle",
    "django_redis.serializers.json.JSONSerializer": "json",
    "django_redis.serializers.msgpack.MSGPackSerializer": "msgpack",
}
_COMPRESSORS: Final = {
    "django_redis.compressors.identity.IdentityCompressor": "",
    **{
        f"django_redis.compressors.{name}.{cls}Compressor": name
        for name, cls in (("zlib", "Zlib"), ("gzip", "Gzip"), ("lz4", "Lz4"), ("zstd", "ZStd"), ("lzma", "Lzma"))
    },
}


class _UnsupportedError(Exception):
    """What of a cache only Python can do."""


def describe(alias: str) -> dict[str, Any]:
    """Describe one cache of CACHES; ``{"unsupported": reason}`` where Go cannot read it."""
    try:
        cache = caches[alias]
    except InvalidCacheBackendError:
        return unsupported(f"there is no cache '{alias}'")
    backend = _path_of(type(cache))
    reader = _BACKENDS.get(backend)
    if reader is None:
        return unsupported(f"the backend {backend}")
    if cache.key_func is not default_key_func:
        return unsupported(f"KEY_FUNCTION {describe_value(cache.key_func)}")
    names = {"key_prefix": str(cache.key_prefix), "version": str(cache.version)}
    try:
        return {**names, **reader(cache)}
    except _UnsupportedError as error:
        return unsupported(str(error))


# --- backends --------------------------------------------------------------------------------------------------------


def _redis(cache: Any) -> dict[str, Any]:
    """django.core.cache.backends.redis.RedisCache: the first server is written to, the others are its replicas."""
    options = dict(cache._options)
    _refuse_class(options, "pool_class", _REDIS_POOLS)
    _refuse_class(options, "serializer", ("django.core.cache.backends.redis.RedisSerializer",))
    options.pop("parser_class", None)
    return {"backend": "redis", "serializer": "pickle", "compressor": "", "servers": _servers(cache._servers, options)}


def _django_redis(cache: Any) -> dict[str, Any]:
    """django_redis.cache.RedisCache with its default client, its serializers and its compressors."""
    options = dict(cache._params.get("OPTIONS", {}))
    if cache._client_cls is not import_string("django_redis.client.default.DefaultClient"):
        raise _UnsupportedError(f"CLIENT_CLASS {_path_of(cache._client_cls)}")
    _refuse_class(options, "REDIS_CLIENT_CLASS", ("redis.Redis", "redis.client.Redis"))
    _refuse_class(options, "CONNECTION_POOL_CLASS", _REDIS_POOLS)
    if options.get("CONNECTION_FACTORY") not in (None, "django_redis.pool.ConnectionFactory"):
        raise _UnsupportedError(f"CONNECTION_FACTORY {options['CONNECTION_FACTORY']}")
    connection = {name.lower(): options[name] for name in ("USERNAME", "PASSWORD") if options.get(name)}
    connection.update(options.get("CONNECTION_POOL_KWARGS", {}))
    locations = cache._server.split(",") if isinstance(cache._server, str) else list(cache._server)
    return {
        "backend": "redis",
        "serializer": _named(options.get("SERIALIZER"), _SERIALIZERS, "SERIALIZER"),
        "compressor": _named(options.get("COMPRESSOR"), _COMPRESSORS, "COMPRESSOR"),
        "servers": _servers(locations, connection),
    }


def _database(cache: Any) -> dict[str, Any]:
    return {"backend": "database", "database": str(router.db_for_read(cache.cache_model_class)), "table": cache._table}


def _file(cache: Any) -> dict[str, Any]:
    return {"backend": "file", "path": str(cache._dir)}


def _memcached(cache: Any) -> dict[str, Any]:
    """django.core.cache.backends.memcached.PyMemcacheCache: pymemcache's rendezvous hashing over the servers."""
    given = dict(cache._options)
    if given.pop("serde", _pickle_serde()) is not _pickle_serde():
        raise _UnsupportedError("OPTIONS serde")
    others = sorted(name for name, value in given.items() if name not in _MEMCACHED_TUNING and value)
    if others:
        raise _UnsupportedError(f"OPTIONS {', '.join(others)}")
    return {"backend": "memcached", "servers": [_memcached_server(server) for server in cache._servers]}


def _pickle_serde() -> Any:
    from pymemcache import serde

    return serde.pickle_serde


def _memcached_server(server: Any) -> str:
    """Return a server as pymemcache names it, which is what it hashes (pymemcache.client.base.normalize_server_spec)."""
    from pymemcache.client.base import normalize_server_spec

    spec = normalize_server_spec(server)
    return f"{spec[0]}:{spec[1]}" if isinstance(spec, tuple) else str(spec)


_BACKENDS: Final[dict[str, Callable[[Any], dict[str, Any]]]] = {
    "django.core.cache.backends.redis.RedisCache": _redis,
    "django_redis.cache.RedisCache": _django_redis,
    "django.core.cache.backends.db.DatabaseCache": _database,
    "django.core.cache.backends.filebased.FileBasedCache": _file,
    "django.core.cache.backends.memcached.PyMemcacheCache": _memcached,
}


# --- values ----------------------------------------------------------------------------------------------------------


def _path_of(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _refuse_class(options: dict[str, Any], name: str, known: Iterable[str]) -> None:
    value = options.pop(name, None)
    if value is None:
        return
    path = value if isinstance(value, str) else _path_of(value) if isinstance(value, type) else describe_value(value)
    if path not in known:
        raise _UnsupportedError(f"{name} {path}")


def _named(path: Any, known: Mapping[str, str], name: str) -> str:
    if path is None:
        return next(iter(known.values()))
    if path not in known:
        raise _UnsupportedError(f"{name} {path if isinstance(path, str) else describe_value(path)}")
    return known[path]


def _servers(locations: Iterable[str], options: Mapping[str, Any]) -> list[str]:
    described = [urls.cache_server(location, options) for location in locations]
    for server in described:
        if "unsupported" in server:
            raise _UnsupportedError(server["unsupported"])
    return [server["url"] for server in described]
