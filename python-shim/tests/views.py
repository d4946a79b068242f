"""Views of the site under test; what they shall do stands in the query string."""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from df_websockets.tasks import SERVER, set_websocket_topics, trigger
from django.contrib.auth import authenticate, get_user_model, login, logout, update_session_auth_hash
from django.http import HttpRequest, HttpResponse

PASSWORD = "wonderland"


def page(request: HttpRequest) -> HttpResponse:
    for action in request.GET.getlist("do"):
        _act(request, action)
    status = int(request.GET.get("status", "200"))
    set_websocket_topics(request, *request.GET.getlist("topic"))
    return HttpResponse("page", status=status)


async def async_page(request: HttpRequest) -> HttpResponse:
    for action in request.GET.getlist("do"):
        await sync_to_async(_act)(request, action)
    await sync_to_async(set_websocket_topics)(request, *request.GET.getlist("topic"))
    return HttpResponse("page")


def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse("no topics")


def call(request: HttpRequest) -> HttpResponse:
    trigger(None, request.GET["signal"], to=[SERVER], shard=int(request.GET.get("shard", "0")))
    return HttpResponse("called")


async def async_call(request: HttpRequest) -> HttpResponse:
    return await sync_to_async(call)(request)


def _act(request: HttpRequest, action: str) -> None:
    actions: dict[str, Any] = {
        "visit": lambda: request.session.update({"cart": [1]}),
        "login": lambda: login(request, _required(authenticate(request, username="alice", password=PASSWORD))),
        "logout": lambda: logout(request),
        "new-password": lambda: _new_password(request, keep=True),
        "lost-password": lambda: _new_password(request, keep=False),
    }
    actions[action]()


def _new_password(request: HttpRequest, keep: bool) -> None:
    assert request.user.is_authenticated
    # Another instance than request.user, as a form's clean() may have loaded it.
    user = get_user_model().objects.get(username="alice")
    user.set_password("looking-glass")
    user.save()
    if keep:
        update_session_auth_hash(request, user)


def _required(user: Any) -> Any:
    assert user is not None
    return user
