"""Targets of a trigger by name, as URLs and Celery tasks can carry them."""

from __future__ import annotations

from typing import Any

from df_websockets.tasks import BROADCAST, SERVER, USER, WINDOW
from django.apps import apps

CONSTANTS = {"window": WINDOW, "user": USER, "broadcast": BROADCAST, "server": SERVER}


def target(name: str) -> Any:
    """window, user, broadcast, server; object:auth.group:42; class:auth.group; int:7; anything else is a text topic."""
    kind, _, rest = name.partition(":")
    if name in CONSTANTS:
        return CONSTANTS[name]
    if kind == "object":
        label, _, key = rest.partition(":")
        return apps.get_model(label)(pk=key)
    if kind == "class":
        return apps.get_model(rest)
    if kind == "int":
        return int(rest)
    return name


def targets(names: list[str]) -> list[Any]:
    return [target(name) for name in names]
