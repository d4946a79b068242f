"""Errbacks of tasks that failed in a Go worker.

Celery knows two kinds and tells them apart by the function's signature: one that takes ``(request, exc, traceback)`` is called in the
worker in which the task failed, one that takes the task's ID is sent as a task. Only Python can see a function's signature, and only
Python can call it, so a Go worker sends the task ``dfws.errback``, which does what the worker of a Python task would have done
(celery.backends.base.Backend._call_task_errbacks).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

from celery import group
from celery.app.task import Context
from celery.exceptions import NotRegistered, SecurityError
from celery.utils.functional import arity_greater

logger = logging.getLogger("dfws")

TASK: Final = "dfws.errback"


def call(task: Any, request: Mapping[str, Any], exception: Mapping[str, Any], traceback: str | None, errbacks: Iterable[Any]) -> None:
    """Call the errbacks of a failed task: those of the new kind here, one after the other, then the others as a group of tasks.

    An errback that raises is logged and does not keep the others from being called.
    """
    failed = failed_request(request)
    exc = rebuild(task.app, exception)
    # What the errbacks send is the failed task's children, as where the task fails in Python: Celery finds the parent through the
    # innermost request that was not called directly.
    task.request_stack.push(failed)
    try:
        signatures = [_signature(task.app, errback) for errback in errbacks]
        old = [signature for signature in signatures if not _called(task.app, signature, failed, exc, traceback)]
        if old:
            group(old, app=task.app).apply_async((failed.id,), parent_id=failed.id, root_id=failed.root_id or failed.id)
    finally:
        task.request_stack.pop()


def failed_request(request: Mapping[str, Any]) -> Context:
    """Rebuild ``Task.request`` of the failed task from the headers of its message and its arguments."""
    if not isinstance(request.get("id"), str):
        raise ValueError("request has no id")
    return Context({**request, "delivery_info": request.get("delivery_info") or {}, "called_directly": False})


def rebuild(app: Any, exception: Mapping[str, Any]) -> BaseException:
    """Make the exception that a stored one stands for. One of a type that this process does not know gets a class of its own."""
    try:
        found: BaseException | None = app.backend.exception_to_python(dict(exception))
    except (SecurityError, TypeError, ValueError) as error:
        logger.warning("the exception of a failed task cannot be rebuilt: %s", error)
        return error
    return Exception() if found is None else found


def takes_task_id(app: Any, errback: Any) -> bool:
    """Tell whether an errback is one of the old kind. Raises NotRegistered for a task that this process does not have."""
    header = getattr(errback.type, "__header__", None)
    # A bound task's header is a partial: it is sent as a task, so that it can be retried.
    if header is None or isinstance(header, partial):
        return True
    # Celery 5.7 leaves out the arguments that the signature has already.
    greater: Callable[[Any, int], Any] = getattr(app.backend, "_errback_arity_greater", _arity_greater)
    return not greater(errback, 1)


def names_taking_task_id(app: Any) -> list[str]:
    """List the tasks of this process that are errbacks of the old kind whatever their arguments: Go workers send them themselves.

    Arguments in a signature can only make an errback of the new kind one of the old.
    """
    return sorted(name for name, task in list(app.tasks.items()) if takes_task_id(app, task.s()))


def queue(app: Any) -> str:
    """Return the queue to which the site routes dfws.errback."""
    try:
        route: Mapping[str, Any] = app.amqp.router.route({}, TASK)
        return str(route["queue"].name)
    except Exception:
        # The site's routers are its own code. Where they fail, nothing of its own gets through either.
        logger.exception("the queue of %s cannot be computed: the default queue is used", TASK)
        return str(app.conf.task_default_queue)


def _arity_greater(errback: Any, count: int) -> Any:
    return arity_greater(errback.type.__header__, count)


def _signature(app: Any, serialized: Any) -> Any:
    errback = app.signature(serialized)
    if not errback._app:
        errback._app = app
    return errback


def _called(app: Any, errback: Any, failed: Context, exc: BaseException, traceback: str | None) -> bool:
    """Call an errback of the new kind; False when it is one of the old. A task that is not known here may be known to another worker."""
    try:
        if takes_task_id(app, errback):
            return False
    except NotRegistered:
        return False
    try:
        errback(failed, exc, traceback)
    except Exception:
        # The site's own code: as in Celery, what it raises concerns nobody else.
        logger.exception("errback %s of task %s raised an exception", errback.name, failed.id)
    return True
