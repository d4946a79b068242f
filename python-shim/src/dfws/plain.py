"""Values of settings as JSON has them: lazy, callable and Python-only values have a place in the export too, or are named."""

from __future__ import annotations

import math
import os
import ssl
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.utils.functional import Promise


class ExportError(ValueError):
    """The settings hold something that has no place in the export; the message names the setting."""


def plain(name: str, value: Any) -> Any:
    """Return a setting's value as JSON has it; what JSON has not becomes ``{"unsupported": what}``, which Go refuses where it matters."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, ssl.VerifyMode):
        return value.name.removeprefix("CERT_").lower()
    if isinstance(value, int):
        return int(value)  # without the name of an enumeration's member
    if isinstance(value, float):
        return value if math.isfinite(value) else unsupported(str(value))
    if isinstance(value, timedelta):
        return seconds(name, value)
    if isinstance(value, Promise):
        return str(value)
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    if isinstance(value, bytes):
        return _text(value)
    if isinstance(value, Mapping):
        return {str(key): plain(f"{name}.{key}", item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(name, item) for item in value]
    return unsupported(describe(value))


def seconds(name: str, value: Any) -> int | float | None:
    """Return a number of seconds; a whole one as an integer. A text that is a number counts, since settings come from environments."""
    if value is None:
        return None
    try:
        number = value.total_seconds() if isinstance(value, timedelta) else float(value)
    except (TypeError, ValueError):
        raise ExportError(f"{name} is no number of seconds but a {type(value).__name__}.") from None
    if not math.isfinite(number):
        raise ExportError(f"{name} is {number}, which is no number of seconds.")
    return int(number) if number.is_integer() else number


def unsupported(what: str) -> dict[str, str]:
    """Stand for something that only Python can run; Go names it where it refuses it."""
    return {"unsupported": what}


def describe(value: Any) -> str:
    """Name a Python object by what it is, never by its value, which may be a secret."""
    named = value if hasattr(value, "__qualname__") else type(value)
    kind = "class" if isinstance(value, type) else "function" if callable(value) and named is value else "object"
    return f"{kind} {named.__module__}.{named.__qualname__}"


def _text(value: bytes) -> Any:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return unsupported("bytes that are no text")
