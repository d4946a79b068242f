"""The Django app: connects dfws to df_websockets when Django starts."""

from __future__ import annotations

import logging
import os
from typing import Any

from django.apps import AppConfig
from django.http import HttpRequest
from django.http.response import HttpResponseBase

logger = logging.getLogger("dfws")


class DfwsConfig(AppConfig):
    """Replaces what must be replaced in df_websockets, unless DFWS_ENABLED is False or something is not as expected."""

    name = "dfws"
    verbose_name = "dfws gateway and Go workers"

    def ready(self) -> None:
        """Install the hooks and the system checks. Nothing is asked of Redis here."""
        from dfws import _df, checks, conf

        checks.register_all()
        if conf.get().enabled is False:
            return
        obstacles = [*conf.faults(), *_df.problems()]
        if obstacles:
            # Also for servers that run no system checks, where the site works as without dfws.
            logger.error("dfws is not active: %s", "; ".join(obstacles))
            return
        self._install()

    @staticmethod
    def _install() -> None:
        from celery.signals import heartbeat_sent, worker_init, worker_ready

        from dfws import _df, revocation

        _df.install(_Hooks())
        revocation.connect()
        # worker_ready too: started as `celery -A df_websockets`, Django is set up during worker_init, too late for its receivers.
        worker_init.connect(_working, dispatch_uid="dfws.worker_init")
        worker_ready.connect(_working, dispatch_uid="dfws.worker_ready")
        heartbeat_sent.connect(_living, dispatch_uid="dfws.heartbeat_sent")


class _Hooks:
    """What dfws does at the places in df_websockets that it takes over (dfws._df.Hooks)."""

    def remote_handlers(self, signal: str, known_here: bool) -> list[Any]:
        from dfws import routing

        return list(routing.remote_handlers(signal, known_here))

    def call_elsewhere(self, queue: Any, signal_args: list[Any], options: dict[str, Any]) -> bool:
        from dfws import routing

        return routing.call_elsewhere(queue, signal_args, options)

    def middleware_made(self) -> None:
        _serving()

    def request_came(self, request: HttpRequest) -> HttpResponseBase | None:
        from dfws import callback

        return callback.answer(request)

    def response_made(self, request: HttpRequest, response: HttpResponseBase) -> None:
        from dfws import conf, tickets

        if conf.enabled():
            tickets.write(request, response)


_published_by: set[int] = set()


def _working(*, sender: Any, **_: object) -> None:
    """Publish as a worker does: it knows every task of the site."""
    from dfws import conf, registry

    if not conf.enabled():
        return
    try:
        registry.this_is_a_worker(sender.app)
    except Exception:
        # The site's tasks and routers are asked here. Without the answer, Go workers send errbacks as if there were only one kind.
        logger.exception("how errbacks are to be called is not published")
    _serving()


def _living(**_: object) -> None:
    from dfws import registry

    registry.check_now_and_then()


def _serving() -> None:
    """Publish this site's handlers, once per process: it serves pages, or it is a Celery worker."""
    from dfws import conf, registry

    if not conf.enabled() or os.getpid() in _published_by:
        return
    _published_by.add(os.getpid())
    try:
        registry.publish_soon()
    except Exception:
        # The site's modules and its Celery settings are read here for the first time; what is wrong with them, the site finds out when
        # it needs them, as without dfws. It must not keep a server from starting.
        logger.exception("the signals of this site are not published")
