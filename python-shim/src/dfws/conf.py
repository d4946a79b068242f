"""Settings of dfws: every ``DFWS_…`` name of the Django settings, its type and its default, read here and nowhere else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any, Final

from django.conf import settings
from django.core.signals import setting_changed

PREFIX: Final = "DFWS_"
# The first character of a key of ours after the broker's own prefix. Never the channel layer's prefix: its flush() deletes those.
DEFAULT_KEY_PREFIX: Final = "dfws:"


@dataclass(frozen=True)
class Conf:
    """The effective settings. A field is named as its setting, without ``DFWS_`` and in lower case."""

    enabled: bool | None = None
    """True: active, also under Django's test environment. False: df_websockets stays untouched. None: active outside of tests."""
    redis_url: str | None = None
    """Redis of the registry, the tickets and the revocations; None: the broker as df_websockets' Celery application sees it."""
    key_prefix: str | None = None
    """Start of each key; None: ``dfws:`` with the broker's global_keyprefix in front."""
    go_queue: str = "go"
    """Queue of Go handlers that name none. No Python worker may consume it: it drops what it has no function for."""
    ticket_permissions: bool | None = None
    """Whether tickets carry the user's permissions; None: as soon as a Go handler asks for one (``has_perm``)."""
    binary: str | None = None
    """Path of the program dfws; None: ``bin/dfws`` in this package, then PATH."""
    run_dir: str | None = None
    """Private folder of the settings that ``manage.py dfws gateway`` exports; None: one per user in the temporary folder."""
    gateway: Mapping[str, object] = field(default_factory=dict)
    """Options of the program ``dfws gateway``: names without dashes in front, as ``{"max-windows": 1000}``; flags and environment win."""
    registry_ttl: float = 1.0
    """Seconds for which this process believes its copy of the shared registry of signals."""
    redis_timeout: float = 1.0
    """Seconds that one exchange with Redis may take in a request."""


def _is_bool_or_none(value: object) -> str | None:
    return None if value is None or isinstance(value, bool) else "must be True, False or None"


def _is_text_or_none(value: object) -> str | None:
    return None if value is None or (isinstance(value, str) and value) else "must be a text that is not empty, or None"


def _is_text(value: object) -> str | None:
    return None if isinstance(value, str) and value else "must be a text that is not empty"


def _is_positive(value: object) -> str | None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return None if number and 0 < float(value) < float("inf") else "must be a positive number of seconds"  # type: ignore[arg-type]


def _is_options(value: object) -> str | None:
    """What cmd/internal/app takes: texts, numbers, booleans and lists of texts."""
    fault = "must be a dictionary of texts, numbers, booleans and lists of texts"
    if not isinstance(value, Mapping):
        return fault
    for name, option in value.items():
        texts = isinstance(option, (list, tuple)) and all(isinstance(item, str) for item in option)
        if not isinstance(name, str) or not (texts or isinstance(option, (str, int, float))):
            return fault
    return None


_RULES: Final[dict[str, Callable[[object], str | None]]] = {
    "enabled": _is_bool_or_none,
    "redis_url": _is_text_or_none,
    "key_prefix": _is_text_or_none,
    "go_queue": _is_text,
    "ticket_permissions": _is_bool_or_none,
    "binary": _is_text_or_none,
    "run_dir": _is_text_or_none,
    "gateway": _is_options,
    "registry_ttl": _is_positive,
    "redis_timeout": _is_positive,
}


@lru_cache(maxsize=1)
def get() -> Conf:
    """Return the effective settings; a malformed value counts as not set (see ``faults``)."""
    return Conf(**{name: value for name, value in _given().items() if _RULES[name](value) is None})


def faults() -> list[str]:
    """Describe each malformed value, by the setting's name; values are not shown, because a URL can hold a password."""
    described = ((name, _RULES[name](value)) for name, value in _given().items())
    return [f"{PREFIX}{name.upper()} {fault}." for name, fault in described if fault is not None]


def unknown() -> list[str]:
    """Names in the settings that start like ours and are none: usually a typing mistake."""
    known = {PREFIX + field.name.upper() for field in fields(Conf)}
    return sorted(name for name in dir(settings) if name.startswith(PREFIX) and name not in known)


def enabled() -> bool:
    """Tell whether dfws does anything at this moment in this process."""
    explicit = get().enabled
    return not _under_test() if explicit is None else explicit


def _given() -> dict[str, Any]:
    names = (field.name for field in fields(Conf))
    return {name: getattr(settings, PREFIX + name.upper()) for name in names if hasattr(settings, PREFIX + name.upper())}


def _under_test() -> bool:
    """Tell whether django.test.utils.setup_test_environment is active.

    Its state is private, but the visible traces are not reliable: the locmem e-mail backend makes mail.outbox too.
    """
    module = sys.modules.get("django.test.utils")
    return hasattr(getattr(module, "_TestState", None), "saved_data")


def _forget(*, setting: str, **_: object) -> None:
    if setting.startswith(PREFIX):
        get.cache_clear()


setting_changed.connect(_forget, dispatch_uid="dfws.conf")
