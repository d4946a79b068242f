"""Everything that dfws knows about the inside of df_websockets, and the only module that touches it.

Written for df_websockets 1.2.0 to 1.2.6. ``problems`` compares what is installed with what is expected here; with a problem nothing
is replaced, df_websockets works as without dfws, and the system check dfws.E001 says so.

Five names are replaced, none of which a site usually imports:

* ``df_websockets.tasks.REGISTERED_SIGNALS``: a view that also answers with the handlers of other programs (``SignalsView``);
* ``df_websockets.tasks.call_task``: hands calls whose queue only another process can compute to ``dfws.tasks.resolve_queues``;
* ``df_websockets.tasks.caches``: notes the topics that ``set_websocket_topics`` stores. Sites import ``set_websocket_topics`` by
  name, so that wrapping it would come too late; reading the topics back from the cache would cost a round trip per page and finds an
  older entry, or none, where reads go to a replica;
* ``df_websockets.tasks._trigger_signal_async`` and ``_call_ws_signal``: with WEBSOCKET_WORKERS = "channels" df_websockets waits for the
  channel layer by ``async_to_sync`` inside of the event loop, which raises RuntimeError. The calls are collected instead and awaited.

Three methods of ``WebsocketMiddleware`` are wrapped in place: ``__init__``, ``process_request`` and ``process_response``.
"""

from __future__ import annotations

import inspect
import json
import threading
from collections import OrderedDict, UserDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import ContextVar
from functools import lru_cache, wraps
from importlib import metadata
from types import SimpleNamespace
from typing import Any, Final, Protocol

from celery.app.defaults import _TO_NEW_KEY  # type: ignore[attr-defined]  # as df_websockets.celery does
from celery.app.utils import detect_settings  # type: ignore[attr-defined]
from channels import DEFAULT_CHANNEL_LAYER
from channels.layers import get_channel_layer
from df_websockets import constants, decorators, middleware, tasks, ws_settings
from df_websockets.utils import valid_topic_name
from df_websockets.window_info import WindowInfo
from django.apps import apps
from django.conf import settings
from django.core.cache import caches
from django.http import HttpRequest, parse_cookie
from django.http.response import HttpResponseBase

WORKERS_CELERY: Final[str] = constants.WORKER_CELERY
WORKERS_CHANNELS: Final[str] = constants.WORKER_CHANNEL
WebsocketMiddleware: Final[type] = middleware.WebsocketMiddleware
TESTED: Final = ((1, 2), (1, 3))
"""Versions from (included) and to (excluded) which dfws was written for."""

# Pages whose topics were stored and whose response is not finished, in one process. Beyond that the cache is read.
_REMEMBERED_WINDOWS: Final = 4096

_INSTALLED: Final = SimpleNamespace(done=False)


class Handler(Protocol):
    """What dfws reads of df_websockets.decorators.SignalConnection."""

    path: str
    function: Callable[..., Any]
    queue: Any
    is_allowed_to: Any
    accept_kwargs: bool
    required_arguments_names: set[str]
    optional_arguments_names: set[str]

    def get_queue(self, window_info: Any, original_kwargs: Any) -> Any:
        """Return the queue of one call."""


class Hooks(Protocol):
    """What dfws does at the places that it takes over."""

    def remote_handlers(self, signal: str, known_here: bool) -> list[Handler]:
        """Return stand-ins for the handlers of a signal in other programs."""

    def call_elsewhere(self, queue: Any, signal_args: list[Any], options: dict[str, Any]) -> bool:
        """Send a call whose queue is a stand-in; False when the queue is a usual one."""

    def middleware_made(self) -> None:
        """Note that this process serves pages."""

    def request_came(self, request: HttpRequest) -> HttpResponseBase | None:
        """Answer a request that is not for the site; None for all others."""

    def response_made(self, request: HttpRequest, response: HttpResponseBase) -> None:
        """Note that a page with topics is about to leave."""


# --- what is expected ------------------------------------------------------------------------------------------------


def version() -> tuple[int, ...]:
    """Version of the installed df_websockets (its ``__version__`` is out of date)."""
    parts = metadata.version("df_websockets").split(".")
    return tuple(int(part) for part in parts if part.isdigit())


def problems() -> list[str]:
    """Describe what in df_websockets differs from what this module was written for."""
    if _INSTALLED.done:
        return []
    found = []
    if getattr(tasks, "REGISTERED_SIGNALS", None) is not decorators.REGISTERED_SIGNALS:
        found.append("tasks.REGISTERED_SIGNALS is not the registry of decorators.signal")
    for function, names in (
        ("_trigger_signal", {"_trigger_signal_async"}),
        ("_trigger_signal_async", {"REGISTERED_SIGNALS", "call_task", "_call_ws_signal"}),
        ("set_websocket_topics", {"caches", "_topic_serializer"}),
        ("process_task", {"REGISTERED_SIGNALS"}),
    ):
        code = getattr(getattr(tasks, function, None), "__code__", None)
        if code is None or not names.issubset(code.co_names):
            found.append(f"tasks.{function} does not use {', '.join(sorted(names))}")
    for owner, function, parameters in (
        (tasks, "call_task", ["worker_mode", "queue", "signal_args", "celery_options"]),
        (WebsocketMiddleware, "process_request", ["self", "request"]),
        (WebsocketMiddleware, "process_response", ["self", "request", "response"]),
    ):
        member = getattr(owner, function, None)
        if member is None or list(inspect.signature(member).parameters) != parameters:
            found.append(f"{function} does not take ({', '.join(parameters)})")
    if ws_settings.WEBSOCKET_WORKERS == WORKERS_CELERY and not hasattr(tasks, "_server_signal_call"):
        found.append("tasks._server_signal_call is missing")
    if not apps.is_installed("df_websockets"):
        found.append('"df_websockets" is not in INSTALLED_APPS')
    return found


def install(hooks: Hooks) -> None:
    """Take over the places listed above, once. To be called only without ``problems``."""
    if _INSTALLED.done:
        return
    _INSTALLED.done = True
    tasks.REGISTERED_SIGNALS = SignalsView(decorators.REGISTERED_SIGNALS, hooks)
    tasks.call_task = _route_calls(tasks.call_task, hooks)
    tasks._trigger_signal_async = _collecting_calls(tasks._trigger_signal_async)
    tasks._call_ws_signal = _after_calls(tasks._call_ws_signal)
    tasks.caches = _RecordingCaches(tasks.caches)
    _wrap_middleware(hooks)


# --- dispatch --------------------------------------------------------------------------------------------------------


class SignalsView(UserDict[str, list[Handler]]):
    """The registry of signals as df_websockets.tasks sees it.

    ``get`` is used by the trigger functions alone, to find the queues of a call; it adds the handlers of other programs. Everything
    else (``in``, ``[]``, iteration; used where a call is executed) shows the handlers of this process only.
    """

    def __init__(self, local: dict[str, list[Handler]], hooks: Hooks) -> None:
        """Show ``local``, which stays the dictionary that ``signal`` registers into."""
        super().__init__()
        self.data = local
        self._hooks = hooks

    def get(self, key: str, default: Any = None) -> Any:
        """Return the handlers of this process, followed by stand-ins for those of others."""
        local = self.data.get(key)
        remote = self._hooks.remote_handlers(key, known_here=bool(local))
        if not remote:
            return default if local is None else local
        return [*(local or ()), *remote]


def _route_calls(original: Callable[..., None], hooks: Hooks) -> Callable[..., None]:
    @wraps(original)
    def call_task(worker_mode: str, queue: Any, signal_args: list[Any], celery_options: dict[str, Any]) -> None:
        if hooks.call_elsewhere(queue, signal_args, celery_options):
            return
        calls = _calls.get()
        if worker_mode == WORKERS_CHANNELS and calls is not None:
            calls.append((queue, signal_args))
        else:
            original(worker_mode, queue, signal_args, celery_options)

    return call_task


# Calls of the signal that is being triggered, for channels of the layer; None outside of a trigger.
_calls: ContextVar[list[tuple[str, list[Any]]] | None] = ContextVar("dfws_calls", default=None)


def _collecting_calls(original: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @wraps(original)
    async def _trigger_signal_async(*args: Any, **kwargs: Any) -> None:
        token = _calls.set([])
        try:
            await original(*args, **kwargs)
            await _send_calls()
        finally:
            _calls.reset(token)

    return _trigger_signal_async


def _after_calls(original: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Keep df_websockets' order: servers first, then windows."""

    @wraps(original)
    async def _call_ws_signal(*args: Any, **kwargs: Any) -> None:
        await _send_calls()
        await original(*args, **kwargs)

    return _call_ws_signal


async def _send_calls() -> None:
    """Send the collected calls, each as the message that df_websockets' BackgroundConsumer reads."""
    calls = _calls.get()
    while calls:
        queue, signal_args = calls.pop(0)
        await get_channel_layer(DEFAULT_CHANNEL_LAYER).send(queue, {"type": "process.signal", "args": signal_args})


def call_task(queue: str, signal_args: list[Any], options: dict[str, Any]) -> None:
    """Send one call to one queue, as df_websockets does it."""
    tasks.call_task(workers(), queue, signal_args, options)


def signals_are_captured() -> bool:
    """Tell whether df_websockets.testing.SignalQueue is active: then calls stay in this process."""
    return bool(getattr(tasks.call_task, "__module__", "") == "df_websockets.testing")


def local_handlers() -> Mapping[str, list[Handler]]:
    """Handlers by signal, as registered by the modules imported so far in this process."""
    registered: Mapping[str, list[Handler]] = decorators.REGISTERED_SIGNALS
    return registered


def import_handlers() -> None:
    """Import every module that may hold handlers, as the first trigger of a process does. Loads the Celery application too."""
    tasks.import_signals_and_functions()


def permission_of(rule: Any) -> str:
    """Name a handler's ``is_allowed_to`` as the shared registry has it; ``custom`` for anything but df_websockets' own rules."""
    if type(rule) is decorators.has_perm:
        return f"has_perm:{rule.perm}"
    for name in ("everyone", "is_authenticated", "is_anonymous", "is_staff", "is_superuser", "server_side"):
        if rule is getattr(decorators, name):
            return name
    return "custom"


def declared_queues(queue: Any) -> list[str]:
    """List the queues that a dynamic queue says it can return; empty when it does not say."""
    base = decorators.DynamicQueueName
    if not isinstance(queue, base) or type(queue).get_available_queues is base.get_available_queues:
        return []
    return sorted(str(name) for name in queue.get_available_queues())


# --- windows and topics ----------------------------------------------------------------------------------------------


class _RecordingCache:
    """A Django cache; what is stored through it is noted in ``recorded``."""

    def __init__(self, cache: Any, recorded: _Recorded) -> None:
        self._cache = cache
        self._recorded = recorded

    def set(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        result = self._cache.set(key, value, *args, **kwargs)
        self._recorded.put(key, value)
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)


class _RecordingCaches:
    """``django.core.cache.caches`` for df_websockets.tasks alone, where only ``set_websocket_topics`` uses it."""

    def __init__(self, caches: Any) -> None:
        self._caches = caches
        self.recorded = _Recorded()

    def __getitem__(self, alias: str) -> _RecordingCache:
        return _RecordingCache(self._caches[alias], self.recorded)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._caches, name)


class _Recorded:
    """The last entries that were stored, by key; bounded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, str] = OrderedDict()

    def put(self, key: str, value: str) -> None:
        with self._lock:
            self._entries[key] = value
            self._entries.move_to_end(key)
            if len(self._entries) > _REMEMBERED_WINDOWS:
                self._entries.popitem(last=False)

    def take(self, key: str) -> str | None:
        with self._lock:
            return self._entries.pop(key, None)


def window_key(request: HttpRequest) -> str:
    """Return the secret that names the browser window of a request."""
    return str(getattr(request, "window_key", None) or "")


def bound_topics(request: HttpRequest) -> list[str]:
    """Return the texts of the topics that this request bound to its window, without having to ask the cache for them.

    A second request of the same window, finished at the same moment by another thread, may have taken them: then the cache answers.
    """
    key = f"{ws_settings.WEBSOCKET_CACHE_PREFIX}{window_key(request)}"
    text = None
    if isinstance(tasks.caches, _RecordingCaches):
        text = tasks.caches.recorded.take(key)
    if text is None:
        text = tasks.caches[ws_settings.WEBSOCKET_CACHE_BACKEND].get(key, "[]")
    topics: list[str] = json.loads(text)
    return topics


def public_topics(window_info: Any) -> set[str]:
    """Return the topics of a window that carry no identity: its own and the broadcast's."""
    serialize: Callable[[Any, Any], str | None] = tasks._topic_serializer
    return {text for topic in (tasks.WINDOW, tasks.BROADCAST) if (text := serialize(window_info, topic)) is not None}


def group_names(topics: Iterable[str]) -> list[str]:
    """Return the channel layer's group names of topics."""
    return sorted(valid_topic_name(topic) for topic in topics)


def window_info(request: HttpRequest) -> Any:
    """Make the WindowInfo of a request with the site's WINDOW_INFO_MIDDLEWARES."""
    return WindowInfo.from_request(request)


@lru_cache(maxsize=1)
def handshake_handler() -> Any:
    """Return the site's middlewares around a view that does nothing but ask who the user is.

    df_websockets asks after the middlewares are done. If Django then gives the session another key (SECRET_KEY_FALLBACKS), nobody tells
    the browser, which is logged out.
    """
    # Not at the start: it loads channels.
    from df_websockets.consumers import WebsocketHandler

    class Handler(WebsocketHandler):  # type: ignore[misc]
        def _get_response(self, request: HttpRequest) -> HttpResponseBase:
            user = getattr(request, "user", None)
            bool(user is not None and user.is_authenticated)
            response: HttpResponseBase = super()._get_response(request)
            return response

    handler = Handler()
    handler.load_middleware()
    return handler


def run_handshake(scope: dict[str, Any]) -> tuple[HttpRequest, HttpResponseBase]:
    """Send a handshake through the site's middlewares as df_websockets' consumer does; return its request, and the response."""
    from df_websockets.consumers import DFConsumer

    cookie = next((value for name, value in scope["headers"] if name == b"cookie"), b"")
    consumer = DFConsumer()
    # channels.sessions.CookieMiddleware: the first header alone.
    consumer.scope = {**scope, "cookies": parse_cookie(cookie.decode("latin-1"))}
    request: HttpRequest = consumer.build_http_request()
    response: HttpResponseBase = handshake_handler().get_response(request)
    request.window_key = request.COOKIES.get(constants.WEBSOCKET_KEY_COOKIE_NAME, "")  # type: ignore[attr-defined]
    return request, response


def window_topics(request: HttpRequest) -> list[str]:
    """Return the texts of the topics that the consumer finds in the cache for a handshake."""
    key = f"{ws_settings.WEBSOCKET_CACHE_PREFIX}{getattr(request, 'window_key', '')}"
    topics: list[str] = json.loads(caches[ws_settings.WEBSOCKET_CACHE_BACKEND].get(key, "[]"))
    return topics


def custom_topics() -> bool:
    """Tell whether WEBSOCKET_TOPIC_SERIALIZER is the site's own."""
    return bool(ws_settings.WEBSOCKET_TOPIC_SERIALIZER != "df_websockets.topics.serialize_topic")


def window_info_from_dict(values: dict[str, Any]) -> Any:
    """Read a WindowInfo back as a worker does."""
    return WindowInfo.from_dict(values)


def _wrap_middleware(hooks: Hooks) -> None:
    make = WebsocketMiddleware.__init__  # type: ignore[misc]
    begin = WebsocketMiddleware.process_request  # type: ignore[attr-defined]
    finish = WebsocketMiddleware.process_response  # type: ignore[attr-defined]

    @wraps(make)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        hooks.middleware_made()

    @wraps(begin)
    def process_request(self: Any, request: HttpRequest) -> HttpResponseBase | None:
        # First, because process_response needs what it sets.
        early: HttpResponseBase | None = begin(self, request)
        return early or hooks.request_came(request)

    # In async sites Django calls it in a thread (MiddlewareMixin), so that sessions and users can be read in both worlds.
    @wraps(finish)
    def process_response(self: Any, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        result: HttpResponseBase = finish(self, request, response)
        if getattr(request, "has_websocket_topics", False):
            hooks.response_made(request, result)
        return result

    WebsocketMiddleware.__init__ = __init__  # type: ignore[misc]
    WebsocketMiddleware.process_request = process_request  # type: ignore[attr-defined]
    WebsocketMiddleware.process_response = process_response  # type: ignore[attr-defined]


# --- settings --------------------------------------------------------------------------------------------------------


def workers() -> str:
    """WEBSOCKET_WORKERS."""
    return str(ws_settings.WEBSOCKET_WORKERS)


def default_queue() -> str:
    """WEBSOCKET_DEFAULT_QUEUE."""
    return str(ws_settings.WEBSOCKET_DEFAULT_QUEUE)


def websocket_url() -> str:
    """WEBSOCKET_URL."""
    return str(ws_settings.WEBSOCKET_URL)


def cache_alias() -> str:
    """WEBSOCKET_CACHE_BACKEND."""
    return str(ws_settings.WEBSOCKET_CACHE_BACKEND)


def cache_prefix() -> str:
    """WEBSOCKET_CACHE_PREFIX."""
    return str(ws_settings.WEBSOCKET_CACHE_PREFIX)


def cache_expire() -> Any:
    """WEBSOCKET_CACHE_EXPIRE, as the settings have it."""
    return ws_settings.WEBSOCKET_CACHE_EXPIRE


def celery_application() -> Any:
    """Load df_websockets' Celery application. It configures logging and moves Celery's old names in the Django settings."""
    from df_websockets.celery import app

    return app


def celery_conf() -> Any:
    """Return the settings of df_websockets' Celery application without loading it, which has side effects.

    Once it is loaded (each serving process does so) its own settings are returned, with what the site has changed in them.
    """
    import sys

    loaded = sys.modules.get("df_websockets.celery")
    if loaded is not None and hasattr(loaded, "app"):
        return loaded.app.conf
    values: dict[str, Any] = {"TIME_ZONE": settings.TIME_ZONE}
    for old, new in _TO_NEW_KEY.items():
        for name in (new, old):
            if hasattr(settings, name):
                values[new] = getattr(settings, name)
    return detect_settings(values)
