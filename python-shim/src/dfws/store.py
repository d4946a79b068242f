"""Redis as dfws uses it: every key, the connection, and what happens while Redis is away."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeVar
from urllib.parse import unquote, urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import Sentinel

from dfws import _df, conf, urls

logger = logging.getLogger("dfws")
T = TypeVar("T")

# After a time-out nobody waits again for this long: a Redis that swallows packets must not add its time-out to every page. A refused
# connection costs nothing and is tried each time.
PAUSE_AFTER_TIMEOUT: Final = 5.0
# kombu.transport.redis.SentinelTransport.default_port
SENTINEL_PORT: Final = 26379
# At most one line per subject in this time.
LOG_PERIOD: Final = 60.0


class Unavailable(Exception):
    """Redis was not asked, because it timed out a moment ago."""


# --- keys ------------------------------------------------------------------------------------------------------------


def key_prefix() -> str:
    """Return the start of each key: DFWS_KEY_PREFIX, or ``dfws:`` behind the broker's own prefix."""
    explicit = conf.get().key_prefix
    if explicit is not None:
        return explicit
    options = _df.celery_conf().broker_transport_options or {}
    return f"{options.get('global_keyprefix', '')}{conf.DEFAULT_KEY_PREFIX}"


def registry_key() -> str:
    """Hash of the signals that each publisher handles."""
    return key_prefix() + "registry"


def registry_channel() -> str:
    """Channel that names a publisher whose entry in the registry changed."""
    return registry_key() + ":changed"


def ticket_key(window_key: str) -> str:
    """Ticket of one window; the window key is a secret and does not appear."""
    return f"{key_prefix()}ticket:{hashlib.sha256(window_key.encode()).hexdigest()}"


def user_index_key(user: str) -> str:
    """Set of the keys of a user's tickets."""
    return f"{key_prefix()}tickets:user:{user}"


def session_index_key(session: str) -> str:
    """Set of the keys of a session's tickets."""
    return f"{key_prefix()}tickets:session:{session}"


def stamp_key(user: str) -> str:
    """Stamp that a user got a moment ago."""
    return f"{key_prefix()}stamp:{user}"


def ended_key(session: str) -> str:
    """Mark of a session that ended a moment ago."""
    return f"{key_prefix()}ended:{session}"


def revoked_channel() -> str:
    """Channel of revocations."""
    return key_prefix() + "revoked"


# --- connection ------------------------------------------------------------------------------------------------------


def redis_url() -> str:
    """Return the URL of the Redis of dfws for redis-py: DFWS_REDIS_URL, or the broker's. Raises ValueError where that is no Redis."""
    explicit = conf.get().redis_url
    if explicit is not None:
        return explicit
    celery = _df.celery_conf()
    if urls.is_sentinel(celery.broker_write_url):
        return urls.broker(celery)
    if not urls.is_redis(celery.broker_write_url):
        raise ValueError("Celery's broker is not one Redis server, and DFWS_REDIS_URL is not set")
    return urls.for_redis_py(urls.broker(celery))


class _Process:
    """What one process keeps; a forked child starts anew, since neither sockets nor held locks survive a fork."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.client: Redis | None = None
        self.client_of: tuple[str, float] | None = None
        self.paused_until = 0.0
        self.logged: dict[str, float] = {}


_process = _Process()


def _forget_parent() -> None:
    global _process
    _process = _Process()


os.register_at_fork(after_in_child=_forget_parent)


def client() -> Redis:
    """Return this process' connection pool."""
    wanted = (redis_url(), conf.get().redis_timeout)
    state = _process
    with state.lock:
        if state.client is None or state.client_of != wanted:
            state.client = connect(*wanted)
            state.client_of = wanted
        return state.client


def connect(url: str, timeout: float) -> Redis:
    """Make a connection pool whose exchanges take no longer than ``timeout``; a connection that Redis closed is renewed once."""
    retry = Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,))
    timeouts = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
    if urls.is_sentinel(url):
        return _through_sentinels(url, timeouts, retry)
    return Redis.from_url(url, decode_responses=True, retry=retry, **timeouts)


def _through_sentinels(url: str, timeouts: dict[str, float], retry: Retry) -> Redis:
    """Connect to the master as kombu does: the first URL has user, password and database, the rest is in Celery's settings."""
    celery = _df.celery_conf()
    options = celery.broker_transport_options or {}
    if not options.get("master_name"):
        raise ValueError("broker_transport_options has no master_name, which Sentinel needs")
    parts = [urlsplit(part) for part in url.split(";")]
    tls = {**celery.broker_use_ssl, "ssl": True} if isinstance(celery.broker_use_ssl, Mapping) and celery.broker_use_ssl else {}
    sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]
        [(unquote(part.hostname or "127.0.0.1"), part.port or SENTINEL_PORT) for part in parts],
        min_other_sentinels=options.get("min_other_sentinels", 0),
        sentinel_kwargs={**timeouts, **(options.get("sentinel_kwargs") or {})},
        decode_responses=True,
        retry=retry,
        **timeouts,
        **tls,
    )
    first = parts[0]
    found: Redis = sentinel.master_for(
        options["master_name"],
        username=unquote(first.username or "") or None,
        password=unquote(first.password or "") or None,
        db=int(first.path.strip("/") or 0),
    )
    return found


@contextmanager
def in_request() -> Iterator[Redis]:
    """Give the connection to code that a visitor waits for; raise Unavailable instead of waiting again for a Redis that timed out."""
    if time.monotonic() < _process.paused_until:
        raise Unavailable("Redis timed out a moment ago")
    try:
        yield client()
    except RedisTimeoutError:
        _process.paused_until = time.monotonic() + PAUSE_AFTER_TIMEOUT
        raise


def attempt(subject: str, exchange: Callable[[Redis], T]) -> T | None:
    """Run one exchange in a request; None when Redis is away, which is logged once per period and subject."""
    try:
        with in_request() as connection:
            return exchange(connection)
    except (RedisError, OSError, ValueError, Unavailable) as error:
        log_rarely(subject, error)
        return None


def log_rarely(subject: str, error: BaseException) -> None:
    """Log that something did not happen; the same subject at most once per period."""
    now = time.monotonic()
    state = _process
    with state.lock:
        if now - state.logged.get(subject, float("-inf")) < LOG_PERIOD:
            return
        state.logged[subject] = now
    # The type alone: messages of redis-py can contain addresses, and a URL that does not parse its password.
    logger.warning("%s: %s (further ones within %d s are not logged)", subject, type(error).__name__, LOG_PERIOD)


# --- scripts ---------------------------------------------------------------------------------------------------------

# Writes a ticket, unless its user or session was revoked after this page had read them.
#   KEYS: ticket, mark of the session's end, the user's new stamp, then the indexes
#   ARGV: ticket, life in seconds, stamp, "1" to write in any case
#   Returns "ended" or "changed" without writing, else the sizes of the indexes.
SAVE_TICKET: Final = """
if ARGV[4] ~= '1' then
  if redis.call('EXISTS', KEYS[2]) == 1 then return 'ended' end
  local stamp = redis.call('GET', KEYS[3])
  if stamp and stamp ~= ARGV[3] then return 'changed' end
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
local sizes = {}
for i = 4, #KEYS do
  redis.call('SADD', KEYS[i], KEYS[1])
  redis.call('EXPIRE', KEYS[i], ARGV[2])
  sizes[#sizes + 1] = redis.call('SCARD', KEYS[i])
end
return sizes
"""

# Drops a user's tickets made for another state of that user, and tells the gateways.
#   KEYS: index of the user's tickets, the user's new stamp; ARGV: user, new stamp, channel, payload, life of KEYS[2] in seconds
#   Returns the number of dropped tickets, or -1 when every ticket has the stamp already: then nothing changed and nothing is said.
#   Members whose ticket expired, or was rewritten for somebody else, leave the index.
REVOKE_USER: Final = """
local kept, dropped = 0, 0
redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[5])
for _, key in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local text = redis.call('GET', key)
  local ok, ticket = pcall(cjson.decode, text or '')
  if not text or (ok and type(ticket) == 'table' and ticket.user ~= ARGV[1]) then
    redis.call('SREM', KEYS[1], key)
  elseif ok and type(ticket) == 'table' and ticket.stamp == ARGV[2] then
    kept = kept + 1
  else
    redis.call('DEL', key)
    redis.call('SREM', KEYS[1], key)
    dropped = dropped + 1
  end
end
if kept > 0 and dropped == 0 then return -1 end
redis.call('PUBLISH', ARGV[3], ARGV[4])
return dropped
"""

# Drops the tickets of one session and tells the gateways.
#   KEYS: index of the session's tickets, mark of its end; ARGV: session, channel, payload, life of KEYS[2] in seconds, 0 for no mark
#   Returns the number of dropped tickets. A ticket rewritten for another session stays.
REVOKE_SESSION: Final = """
local dropped = 0
if ARGV[4] ~= '0' then redis.call('SET', KEYS[2], '1', 'EX', ARGV[4]) end
for _, key in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local text = redis.call('GET', key)
  if text then
    local ok, ticket = pcall(cjson.decode, text)
    if not ok or type(ticket) ~= 'table' or ticket.session == ARGV[1] then
      redis.call('DEL', key)
      dropped = dropped + 1
    end
  end
end
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', ARGV[2], ARGV[3])
return dropped
"""

# Takes members whose ticket is gone out of an index. KEYS[1] the index. Returns how many.
PRUNE_INDEX: Final = """
local gone = 0
for _, key in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if redis.call('EXISTS', key) == 0 then gone = gone + redis.call('SREM', KEYS[1], key) end
end
return gone
"""


def run_script(connection: Redis, script: str, keys: list[str], args: list[str]) -> Any:
    """Run one of the scripts above."""
    return connection.register_script(script)(keys=keys, args=args)
