"""Celery tasks of dfws; Celery finds them by itself in each worker of the site."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from celery import shared_task
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from dfws import _df, routing
from dfws.errbacks import TASK as ERRBACK_TASK
from dfws.errbacks import call as call_errbacks

logger = logging.getLogger("dfws")


@shared_task(name="dfws.tasks.resolve_queues", serializer="json", ignore_result=True)
def resolve_queues(
    signal: str,
    window_info: dict[str, Any],
    opts: Any = None,
    from_client: bool = True,
    options: dict[str, Any] | None = None,
) -> None:
    """Send one call of a signal to the queues that its dynamic handlers compute.

    Queues of the signal's other handlers are left out: whoever sent this task has sent the call there, and a worker runs every handler
    of the queue, also those that compute it.
    """
    _df.import_handlers()
    handlers = _df.local_handlers().get(signal, [])
    dynamic = [handler for handler in handlers if callable(handler.queue)]
    if not dynamic:
        logger.warning('signal "%s" has no handler with a dynamic queue in this worker: the call is dropped', signal)
        return
    kwargs = {} if opts is None else opts
    window = _df.window_info_from_dict(window_info)
    known = {str(handler.queue) for handler in handlers if not callable(handler.queue)}
    known.update(handler.queue for handler in routing.snapshot().signals.get(signal, ()) if handler.queue is not None)
    queues = {str(handler.get_queue(window, kwargs)) for handler in dynamic} - known
    for queue in sorted(queues):
        arguments: list[Any] = [signal, window_info, kwargs, from_client, [], True, queue]
        _df.call_task(queue, arguments, _celery_options(options or {}))


@shared_task(name=ERRBACK_TASK, bind=True, serializer="json", ignore_result=True)
def errback(
    self: Any,
    request: dict[str, Any],
    exception: dict[str, Any],
    traceback: str | None,
    errbacks: list[Any],
) -> None:
    """Call the errbacks of a task that failed in a Go worker.

    ``request`` is what Celery's workers make ``Task.request`` of: the headers of the task's message, its ``args`` and ``kwargs``, the
    members of its embed, ``properties``, ``reply_to``, ``correlation_id``, ``hostname`` and ``delivery_info``. ``exception`` is the
    failure as results have it: ``exc_type``, ``exc_message`` and ``exc_module``.
    """
    call_errbacks(self, request, exception, traceback, errbacks)


def _celery_options(options: dict[str, Any]) -> dict[str, Any]:
    """Read the delays of a call: seconds, or points in time as text or as a datetime (naive ones in Django's time zone)."""
    result = {name: options[name] for name in ("countdown", "eta", "expires") if options.get(name)}
    for name in ("eta", "expires"):
        value = result.get(name)
        if isinstance(value, str):
            value = parse_datetime(value)
            if value is None:
                raise ValueError(f"options.{name} is not an ISO 8601 time")
        if isinstance(value, datetime) and timezone.is_naive(value):
            value = timezone.make_aware(value)
        if value is not None:
            result[name] = value
    return result
