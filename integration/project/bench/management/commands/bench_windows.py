"""Renders many pages without a browser: prints one Cookie header a line, each of a session and a window of its own."""

from __future__ import annotations

from typing import Any

from df_websockets.middleware import WebsocketMiddleware
from df_websockets.tasks import set_websocket_topics
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory


def page(request: HttpRequest) -> HttpResponse:
    """A page with the usual topics (window, user, broadcast)."""
    set_websocket_topics(request)
    return HttpResponse()


class Command(BaseCommand):
    help = "Prints the cookies of COUNT windows of the user alice."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("count", type=int)

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.get(username="alice")
        middleware = WebsocketMiddleware(page)
        factory = RequestFactory()
        with transaction.atomic():
            for _ in range(options["count"]):
                session = SessionStore()
                session[SESSION_KEY] = str(user.pk)
                session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
                session[HASH_SESSION_KEY] = user.get_session_auth_hash()
                session.save()
                request = factory.get("/", HTTP_HOST="127.0.0.1")
                request.session, request.user = session, user
                response = middleware(request)
                key = response.cookies["dfwskey"].value
                self.stdout.write(f"sessionid={session.session_key}; dfwskey={key}")
