"""The database in which django-celery-results keeps results, as Django connects to it."""

from __future__ import annotations

import os
from typing import Any, Final

from django.apps import apps
from django.db import connections, router

from dfws.plain import ExportError, plain

PACKAGE: Final = "django_celery_results"


def results_alias() -> str:
    """Return the alias of DATABASES to which the site's routers send task results."""
    try:
        model = apps.get_model(PACKAGE, "TaskResult")
    except LookupError:
        raise ExportError(f'result_backend is in the database, and "{PACKAGE}" is not in INSTALLED_APPS.') from None
    return str(router.db_for_write(model))


def describe(alias: str) -> dict[str, Any]:
    """Describe one database of DATABASES. A path of SQLite is made absolute: Go runs in another folder.

    ``time_zone`` is what Django itself converts times to where the database has no type for instants (SQLite, MySQL).
    """
    connection = connections[alias]
    values = connection.settings_dict
    name = values["NAME"]
    name = os.fsdecode(name) if isinstance(name, (os.PathLike, bytes)) else str(name or "")
    if connection.vendor == "sqlite" and name and not _is_special(name):
        name = os.path.abspath(name)
    return {
        "engine": str(values["ENGINE"]),
        "vendor": connection.vendor,
        "name": name,
        "host": str(values["HOST"] or ""),
        "port": str(values["PORT"] or ""),
        "user": str(values["USER"] or ""),
        "password": str(values["PASSWORD"] or ""),
        "options": plain(f"DATABASES['{alias}'].OPTIONS", values["OPTIONS"]),
        "time_zone": connection.timezone_name,
    }


def _is_special(name: str) -> bool:
    """Tell whether SQLite takes a name as something else than a path: a database in memory, or a URI."""
    return name == ":memory:" or name.startswith("file:")
