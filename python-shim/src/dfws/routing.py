"""Routing of calls from this process to handlers elsewhere: Go workers, and Python processes with other modules.

df_websockets asks its registry for the queues of a signal; dfws adds stand-ins for the handlers in the shared registry, each with
the queue of its calls. The shared registry is read at most once per DFWS_REGISTRY_TTL, by one thread at a time; the others, and
everybody while Redis is away, use the last copy.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from django.utils import timezone

from dfws import _df, conf, registry, store


def _rule(*_: object) -> bool:
    return False


def _function(window_info: object, **_: object) -> None:
    """Stand for a function of another program."""


class RemoteConnection:
    """Stands in for a handler of another program where df_websockets looks for queues."""

    function: Callable[..., Any] = staticmethod(_function)
    is_allowed_to: Any = staticmethod(_rule)
    accept_kwargs = True

    def __init__(self, path: str, queue: Any) -> None:
        """Stand for one queue of the signal ``path``."""
        self.path = path
        self.queue = queue
        self.required_arguments_names: set[str] = set()
        self.optional_arguments_names: set[str] = set()

    def get_queue(self, window_info: Any, original_kwargs: Any) -> Any:
        """Return the queue, whatever the call is."""
        return self.queue


class _Elsewhere:
    """Takes the place of a queue that only another process can compute."""

    def __repr__(self) -> str:
        return "(computed by dfws.tasks.resolve_queues)"


ELSEWHERE: Final = _Elsewhere()


class _Process:
    """This process' copy of the registry; a forked child keeps the copy and gets its own lock."""

    def __init__(self, snapshot: registry.Snapshot, read_at: float) -> None:
        self.lock = threading.Lock()
        self.snapshot = snapshot
        self.read_at = read_at


_process = _Process(registry.EMPTY, float("-inf"))


def _renew_lock() -> None:
    global _process
    _process = _Process(_process.snapshot, _process.read_at)


os.register_at_fork(after_in_child=_renew_lock)


def snapshot() -> registry.Snapshot:
    """Return the shared registry, not older than DFWS_REGISTRY_TTL as long as Redis answers."""
    state = _process
    if time.monotonic() - state.read_at < conf.get().registry_ttl:
        return state.snapshot
    # Who comes while another thread reads uses the old copy; before the first one there is nothing to use, so everybody waits.
    if not state.lock.acquire(blocking=state.read_at == float("-inf")):
        return state.snapshot
    try:
        if time.monotonic() - state.read_at >= conf.get().registry_ttl:
            _refresh(state)
        return state.snapshot
    finally:
        state.lock.release()


def forget() -> None:
    """Read the registry again at the next call."""
    _process.read_at = float("-inf")


def _refresh(state: _Process) -> None:
    new = store.attempt("the shared registry is not up to date", lambda redis: registry.load(redis, state.snapshot))
    if new is not None:
        state.snapshot = new
        registry.perhaps_heal(new)
    state.read_at = time.monotonic()


def remote_handlers(signal: str, known_here: bool) -> list[_df.Handler]:
    """Return a stand-in for each queue of a signal's handlers in other programs; none when calls stay in this process."""
    celery = _df.workers() == _df.WORKERS_CELERY
    if not conf.enabled() or not (celery or _df.workers() == _df.WORKERS_CHANNELS) or _df.signals_are_captured():
        return []
    handlers = snapshot().signals.get(signal, ())
    queues: set[Any] = {handler.queue for handler in handlers if handler.queue is not None}
    # A signal that is known here has its dynamic queues computed here, as ever; elsewhere they are by a Celery task.
    if celery and not known_here and any(handler.queue is None for handler in handlers):
        queues.add(ELSEWHERE)
    return [RemoteConnection(signal, queue) for queue in queues]


def call_elsewhere(queue: Any, signal_args: list[Any], options: dict[str, Any]) -> bool:
    """Let another process compute the queues of a call and send it; False when the queue is known."""
    if queue is not ELSEWHERE:
        return False
    from dfws.tasks import resolve_queues

    signal, window_info, opts, from_client = signal_args[:4]
    arguments = {
        "signal": signal,
        "window_info": window_info,
        "opts": opts,
        "from_client": from_client,
        "options": _absolute(options),
    }
    resolve_queues.apply_async(kwargs=arguments, queue=_df.default_queue(), add_to_parent=False)
    return True


def _absolute(options: dict[str, Any]) -> dict[str, Any]:
    """Turn delays into points in time, so that the way through another queue adds nothing to them."""
    absolute = dict(options)
    if (countdown := absolute.pop("countdown", None)) is not None:
        absolute.setdefault("eta", timezone.now() + timedelta(seconds=countdown))
    if isinstance(absolute.get("expires"), (int, float)):
        absolute["expires"] = timezone.now() + timedelta(seconds=absolute["expires"])
    return absolute
