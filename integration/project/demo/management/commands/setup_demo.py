"""Creates the users and objects that tests and the demo page know by name. Can be run again."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group, Permission, User
from django.core.management.base import BaseCommand

# name: (is_staff, is_superuser, permission)
USERS: dict[str, tuple[bool, bool, str | None]] = {
    "alice": (False, False, None),
    "bob": (False, False, "change_user"),
    "staff": (True, False, None),
    "root": (True, True, None),
}
GROUP_ID = 42


class Command(BaseCommand):
    help = "Creates the users alice, bob, staff and root (password pw-<name>) and the group 42."

    def handle(self, *args: Any, **options: Any) -> None:
        for name, (is_staff, is_superuser, permission) in USERS.items():
            user, _ = User.objects.get_or_create(username=name)
            user.is_staff, user.is_superuser = is_staff, is_superuser
            user.set_password(f"pw-{name}")
            user.save()
            if permission is not None:
                user.user_permissions.set([Permission.objects.get(content_type__app_label="auth", codename=permission)])
        Group.objects.update_or_create(id=GROUP_ID, defaults={"name": "group of the README"})
        self.stdout.write("users: " + ", ".join(USERS))
