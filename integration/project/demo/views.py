"""The demo page, and small pages that tests call."""

from __future__ import annotations

import json
from typing import Any

from asgiref.sync import sync_to_async
from celery import current_app
from df_websockets.tasks import SERVER, set_websocket_topics, trigger, trigger_signal
from df_websockets.window_info import WindowInfo
from django.contrib.auth import authenticate, login, logout
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt, ensure_csrf_cookie

from demo import payloads, targets
from demo.forms import GreetingForm
from demo.tasks import trigger_from_task


@ensure_csrf_cookie
def home(request: HttpRequest) -> HttpResponse:
    """The demo page."""
    set_websocket_topics(request, "demo")
    return render(request, "demo/home.html", {"form": GreetingForm(auto_id="form-%s")})


def log_in(request: HttpRequest) -> HttpResponse:
    """?u=alice&p=pw-alice"""
    user = authenticate(request, username=request.GET.get("u"), password=request.GET.get("p"))
    if user is None:
        return HttpResponse("wrong name or password", status=403)
    login(request, user)
    return HttpResponse(user.get_username())


def log_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return HttpResponse("logged out")


@ensure_csrf_cookie
def page(request: HttpRequest) -> HttpResponse:
    """?topic=news&topic=object:auth.group:42 binds a window to these topics."""
    set_websocket_topics(request, *targets.targets(request.GET.getlist("topic")))
    return JsonResponse({"window_key": request.window_key, "user": request.user.pk})


def _trigger_from(request: HttpRequest) -> None:
    # A view that never looked at request.user cannot trigger: df_websockets would then read it from the database inside
    # an event loop.
    bool(request.user.is_authenticated)
    names = _names(request)
    options = {name: float(request.GET[name]) for name in ("countdown", "expires") if name in request.GET}
    to = None if names is None else targets.targets(names)
    trigger_signal(request, request.GET["signal"], to=to, kwargs=_arguments(request), **options)


def _names(request: HttpRequest) -> list[str] | None:
    return [name for value in request.GET.getlist("to") for name in value.split(",")] or None


def _arguments(request: HttpRequest) -> dict[str, Any]:
    """The JSON object `kwargs`, with the named payload under `payload`."""
    arguments = json.loads(request.GET.get("kwargs", "{}"))
    if "payload" in request.GET:
        arguments["payload"] = payloads.BY_NAME[request.GET["payload"]]
    return arguments


def trigger_view(request: HttpRequest) -> HttpResponse:
    """?signal=name&to=window,server&kwargs={…}&payload=typed: triggers from a synchronous view."""
    _trigger_from(request)
    return HttpResponse("triggered")


async def trigger_view_async(request: HttpRequest) -> HttpResponse:
    """The same from an asynchronous view."""
    await sync_to_async(_trigger_from)(request)
    return HttpResponse("triggered")


def trigger_task(request: HttpRequest) -> HttpResponse:
    """The same from a Celery task, which this view sends."""
    bool(request.user.is_authenticated)
    result = trigger_from_task.delay(
        request.GET["signal"],
        _names(request) or ["user"],
        json.loads(request.GET.get("kwargs", "{}")),
        WindowInfo.from_request(request).to_dict(),
        request.GET.get("payload"),
    )
    return JsonResponse({"task_id": result.id})


def trigger_go(request: HttpRequest) -> HttpResponse:
    """The button of the demo page: a view calls a handler that is written in Go."""
    bool(request.user.is_authenticated)
    trigger(request, "demo.view_to_go", to=[SERVER], name=request.GET.get("name", ""))
    return HttpResponse("triggered")


def window_info(request: HttpRequest) -> HttpResponse:
    """Who a script on this page is, for programs that trigger in its name."""
    bool(request.user.is_authenticated)
    return JsonResponse(WindowInfo.from_request(request).to_dict())


def call_task(request: HttpRequest) -> HttpResponse:
    """?task=name&args=[…]&queue=go&payload=typed: sends a task and says what Python made of its result."""
    args = json.loads(request.GET.get("args", "[]"))
    if "payload" in request.GET:
        args.append(payloads.BY_NAME[request.GET["payload"]])
    result = current_app.send_task(request.GET["task"], args=args, queue=request.GET.get("queue"))
    try:
        value = result.get(timeout=float(request.GET.get("timeout", "20")))
    except Exception as error:  # noqa: BLE001 - the test wants to see whatever Python raises
        name = f"{type(error).__module__}.{type(error).__qualname__}"
        return JsonResponse({"raised": name, "args": ascii(error.args), "traceback": result.traceback}, status=500)
    return JsonResponse({"value": ascii(value)})


def expected(request: HttpRequest) -> HttpResponse:
    """?payload=typed: what Python sends to a browser, and what a Python handler sees."""
    payload = payloads.BY_NAME[request.GET["payload"]]
    return JsonResponse({"browser": payloads.for_browser(payload), "worker": payloads.for_worker(payload)})


@csrf_exempt
def echo(request: HttpRequest) -> HttpResponse:
    """What reached Django, for tests of the proxy."""
    return JsonResponse(
        {
            "method": request.method,
            "path": request.get_full_path(),
            "host": request.get_host(),
            "remote_addr": request.META.get("REMOTE_ADDR"),
            "headers": dict(request.headers),
            "body_bytes": len(request.body),
        }
    )
