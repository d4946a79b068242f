"""What happens to users and sessions in another process: manage.py identity ACTION USERS [SESSIONS]."""

from __future__ import annotations

import io
import time
from importlib import import_module
from typing import Any
from unittest import mock

from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY
from django.contrib.auth.forms import AdminPasswordChangeForm
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

SessionStore = import_module(settings.SESSION_ENGINE).SessionStore


class Command(BaseCommand):
    help = "Creates users (password pw-<name>, flags by the name), or ends identities; prints the time."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action")
        parser.add_argument("users", help="names, comma-separated")
        parser.add_argument("sessions", nargs="?", default="", help="session keys, comma-separated")

    def handle(self, *args: Any, **options: Any) -> None:
        names = [name for name in options["users"].split(",") if name]
        sessions = [key for key in options["sessions"].split(",") if key]
        getattr(self, options["action"].replace("-", "_"))(names, sessions)
        self.stdout.write(repr(time.time()))

    def create(self, names: list[str], sessions: list[str]) -> None:
        for name in names:
            flags = {"is_staff": "staff" in name or "root" in name, "is_superuser": "root" in name}
            User.objects.create_user(name, password=f"pw-{name}", **flags)

    def flush(self, names: list[str], sessions: list[str]) -> None:
        for key in sessions:
            SessionStore(key).flush()

    def clearsessions(self, names: list[str], sessions: list[str]) -> None:
        self.expire(names, sessions)
        call_command("clearsessions")

    def expire(self, names: list[str], sessions: list[str]) -> None:
        past = timezone.now() - timezone.timedelta(seconds=1)
        SessionStore.get_model_class().objects.filter(session_key__in=sessions).update(expire_date=past)

    def rotate(self, names: list[str], sessions: list[str]) -> None:
        """Make sessions as they were under the first of SECRET_KEY_FALLBACKS."""
        for name, key in zip(names, sessions, strict=True):
            store = SessionStore(key)
            store[HASH_SESSION_KEY] = next(User.objects.get(username=name).get_session_auth_fallback_hash())
            store.save()

    def set_password(self, names: list[str], sessions: list[str]) -> None:
        for user in User.objects.filter(username__in=names):
            user.set_password("another")
            user.save()

    def admin_form(self, names: list[str], sessions: list[str]) -> None:
        for user in User.objects.filter(username__in=names):
            form = AdminPasswordChangeForm(
                user, {"password1": "through-the-looking-glass", "password2": "through-the-looking-glass"}
            )
            assert form.is_valid(), form.errors
            form.save()

    def changepassword(self, names: list[str], sessions: list[str]) -> None:
        with mock.patch(
            "django.contrib.auth.management.commands.changepassword.Command._get_pass", return_value="the-white-rabbit"
        ):
            for name in names:
                call_command("changepassword", name, stdout=io.StringIO())

    def deactivate(self, names: list[str], sessions: list[str]) -> None:
        for user in User.objects.filter(username__in=names):
            user.is_active = False
            user.save()

    def delete(self, names: list[str], sessions: list[str]) -> None:
        User.objects.filter(username__in=names).delete()

    def update(self, names: list[str], sessions: list[str]) -> None:
        """Change rows without a word."""
        User.objects.filter(username__in=names).update(is_active=False)
