"""The registry of signals that both languages share: what this site handles is published, what others handle is read.

One hash in Redis, one field per publisher. Entries have no end of life: calls wait in their queues while workers restart.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from django.conf import settings
from redis import Redis
from redis.client import Pipeline

from dfws import _df, background, conf, errbacks, store

logger = logging.getLogger("dfws")

SCHEMA: Final = 1
PUBLISHER: Final = "python"
# How often a worker looks whether its entry is still there: somebody may have flushed Redis, which nobody else can repair.
CHECK_PERIOD: Final = 30.0


class _Process:
    """What this process knows; the children of a worker's pool know what the worker does."""

    errbacks: dict[str, Any] | None = None
    checked_at = 0.0


_process = _Process()


# --- publishing ------------------------------------------------------------------------------------------------------


def local_signals() -> dict[str, list[dict[str, Any]]]:
    """Describe each handler of this site. The order does not depend on the order of imports, so that equal sites are equal."""
    _df.import_handlers()
    return {
        signal: sorted((_describe(handler) for handler in handlers), key=_order)
        for signal, handlers in sorted(_df.local_handlers().items())
    }


def local_entry() -> dict[str, Any]:
    """Make this site's entry of the registry, without what only a Celery worker can say."""
    signals = local_signals()
    return {
        "schema": SCHEMA,
        "publisher": PUBLISHER,
        "language": "python",
        "app": site_module(),
        "digest": digest(signals),
        "published_at": round(time.time(), 3),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "default_queue": _df.default_queue(),
        "signals": signals,
    }


def digest(signals: Mapping[str, Any]) -> str:
    """Return the SHA-256 of signals as canonical JSON: sorted keys, no blanks, ASCII."""
    return hashlib.sha256(json.dumps(signals, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def publish(connection: Redis | None = None) -> bool:
    """Publish this site's entry; False when Redis has the same one already. Raises redis.RedisError when Redis is away.

    What workers say about errbacks stays, whoever publishes: a process that serves pages has imported only some of the tasks.
    """
    connection = connection or store.client()
    entry = local_entry()

    def write(pipeline: Pipeline) -> bool:
        old = _parse(pipeline.hget(store.registry_key(), PUBLISHER))
        entry["errbacks"] = _process.errbacks if _process.errbacks is not None else _read_errbacks(old)
        if all(old.get(name) == entry[name] for name in ("schema", "digest", "default_queue", "app", "errbacks")):
            return False
        pipeline.multi()
        pipeline.hset(store.registry_key(), PUBLISHER, json.dumps(entry))
        pipeline.publish(store.registry_channel(), PUBLISHER)
        return True

    watched = store.registry_key()
    written = bool(connection.transaction(write, watched, value_from_callable=True))  # type: ignore[arg-type]  # its result is returned
    if written:
        logger.info("published the handlers of %d signals", len(entry["signals"]))
    return written


def publish_soon() -> None:
    """Publish from a thread, until Redis took it. The site's modules are imported here, not there: Python imports in one thread best."""
    _df.import_handlers()
    background.submit("registry", publish)


def this_is_a_worker(app: Any) -> None:
    """Note how Go workers have errbacks called. Only a Celery worker can say: it runs them, and it has imported all tasks."""
    _process.errbacks = {"task": errbacks.TASK, "queue": errbacks.queue(app), "old_style": errbacks.names_taking_task_id(app)}
    _process.checked_at = time.monotonic()


def check_now_and_then() -> None:
    """Publish again what Redis lost; called by each heartbeat of a worker."""
    if conf.enabled() and time.monotonic() - _process.checked_at >= CHECK_PERIOD:
        _process.checked_at = time.monotonic()
        publish_soon()


def site_module() -> str:
    """Return the top-level package of the site."""
    module = getattr(settings, "SETTINGS_MODULE", None) or getattr(settings, "ROOT_URLCONF", None) or ""
    return str(module).partition(".")[0]


def _describe(handler: _df.Handler) -> dict[str, Any]:
    queue = handler.queue
    dynamic = callable(queue)
    name = None if dynamic else str(queue) or _df.default_queue()
    return {
        "handler": _name(handler.function),
        "queue": name,
        "dynamic": dynamic,
        "queues": _df.declared_queues(queue) if name is None else [name],
        "allow": _df.permission_of(handler.is_allowed_to),
        "arguments": {
            "required": sorted(handler.required_arguments_names),
            "optional": sorted(handler.optional_arguments_names),
            "any": bool(handler.accept_kwargs),
        },
    }


def _name(function: Any) -> str:
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def _order(handler: Mapping[str, Any]) -> tuple[str, str, str]:
    return handler["handler"], str(handler["queue"]), json.dumps(handler, sort_keys=True)


# --- reading ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RemoteHandler:
    """A handler in the shared registry: who has it, and the queue of its calls (None: only Python can compute it)."""

    publisher: str
    language: str
    queue: str | None
    allow: str


@dataclass(frozen=True)
class Snapshot:
    """The shared registry at one moment."""

    raw: Mapping[str, str]
    signals: Mapping[str, tuple[RemoteHandler, ...]]

    @property
    def is_published(self) -> bool:
        """Whether this site's own entry is there."""
        return PUBLISHER in self.raw

    @property
    def wants_permissions(self) -> bool:
        """Whether a Go handler decides by a permission of the user, which it can only know from a ticket."""
        return any(
            handler.language == "go" and handler.allow.startswith("has_perm:") for handlers in self.signals.values() for handler in handlers
        )


EMPTY: Final = Snapshot({}, {})


def load(connection: Redis, known: Snapshot) -> Snapshot:
    """Read the registry; the known snapshot itself when nothing changed."""
    raw = cast("dict[str, str]", connection.hgetall(store.registry_key()))
    return known if raw == known.raw else read(raw)


def read(raw: Mapping[str, str]) -> Snapshot:
    """Read the fields of the registry. What is malformed is left out and named in the log."""
    signals: dict[str, list[RemoteHandler]] = {}
    for publisher, text in raw.items():
        entry = _parse(text)
        if entry.get("schema") != SCHEMA or not isinstance(entry.get("signals"), dict):
            logger.warning("registry: the entry of %s is not of schema %d and is ignored", publisher, SCHEMA)
            continue
        for signal, handlers in entry["signals"].items():
            for handler in handlers if isinstance(handlers, list) else []:
                if (known := _read_handler(publisher, entry, handler)) is not None:
                    signals.setdefault(signal, []).append(known)
    return Snapshot(dict(raw), {signal: tuple(handlers) for signal, handlers in signals.items()})


def _read_handler(publisher: str, entry: Mapping[str, Any], handler: Any) -> RemoteHandler | None:
    if not isinstance(handler, dict):
        return None
    queue = None if handler.get("dynamic") else handler.get("queue") or entry.get("default_queue")
    if queue is not None and not isinstance(queue, str):
        return None
    if queue is None and not handler.get("dynamic"):
        return None
    return RemoteHandler(publisher, str(entry.get("language")), queue, str(handler.get("allow")))


def _read_errbacks(entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what a worker said about errbacks, unless it is malformed: then it must not be passed on."""
    found = entry.get("errbacks")
    if not isinstance(found, dict) or not all(isinstance(found.get(name), str) and found[name] for name in ("task", "queue")):
        return None
    names = found.get("old_style")
    return found if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def _parse(text: Any) -> dict[str, Any]:
    try:
        entry = json.loads(text) if text else {}
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}


def perhaps_heal(snapshot: Snapshot) -> None:
    """Publish again when the entry of this site vanished, e.g. because somebody flushed Redis."""
    if not snapshot.is_published and conf.enabled():
        publish_soon()
