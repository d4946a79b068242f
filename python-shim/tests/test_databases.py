from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.db import connections
from django.test import override_settings

from dfws import _df, databases, export
from dfws.plain import ExportError
from tests import settings

needs_package = pytest.mark.skipif(not apps.is_installed("django_celery_results"), reason="django-celery-results is not installed")


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Change values of DATABASES["default"] for one test."""

    def change(**values: Any) -> None:
        for name, value in values.items():
            monkeypatch.setitem(connections["default"].settings_dict, name, value)

    return change


def test_sqlite(database: Any) -> None:
    database(NAME=settings.DATABASES["default"]["NAME"])
    assert databases.describe("default") == {
        "engine": "django.db.backends.sqlite3",
        "vendor": "sqlite",
        "name": settings.DATABASES["default"]["NAME"],
        "host": "",
        "port": "",
        "user": "",
        "password": "",
        "options": {},
        "time_zone": "UTC",
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("site.sqlite3", os.path.abspath("site.sqlite3")),
        (Path("data") / "site.sqlite3", os.path.abspath("data/site.sqlite3")),
        ("/data/site.sqlite3", "/data/site.sqlite3"),
        (":memory:", ":memory:"),
        ("file:memory?mode=memory&cache=shared", "file:memory?mode=memory&cache=shared"),
    ],
)
def test_name_of_sqlite_is_absolute(database: Any, name: Any, expected: str) -> None:
    database(NAME=name)
    assert databases.describe("default")["name"] == expected


def test_server(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections["default"], "vendor", "postgresql")
    database(
        ENGINE="django.db.backends.postgresql",
        NAME="site",
        HOST="db",
        PORT=5432,
        USER="u",
        PASSWORD="pw",
        OPTIONS={"sslmode": "require", "pool": {"min_size": 2}, "connection_factory": print},
    )
    assert databases.describe("default") == {
        "engine": "django.db.backends.postgresql",
        "vendor": "postgresql",
        "name": "site",
        "host": "db",
        "port": "5432",
        "user": "u",
        "password": "pw",
        "options": {"sslmode": "require", "pool": {"min_size": 2}, "connection_factory": {"unsupported": "function builtins.print"}},
        "time_zone": "UTC",
    }


class ResultsRouter:
    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return "results" if model._meta.app_label == "django_celery_results" else None


@needs_package
@pytest.mark.parametrize(
    "backend",
    ["django-db", "django_celery_results.backends:DatabaseBackend", "django_celery_results.backends.database.DatabaseBackend"],
)
def test_database_of_the_results(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    monkeypatch.setitem(_df.celery_application().conf.changes, "result_backend", backend)
    document = export.document()
    celery = document["celery"]
    assert (celery["result_backend"], celery["result_database"], list(document["databases"])) == ("django-db", "default", ["default"])
    with override_settings(DATABASE_ROUTERS=["tests.test_databases.ResultsRouter"]):
        assert databases.results_alias() == "results"


@needs_package
@pytest.mark.parametrize("backend", ["django-cache", "django_celery_results.backends:CacheBackend"])
def test_cache_of_the_results_is_only_named(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    monkeypatch.setitem(_df.celery_application().conf.changes, "result_backend", backend)
    document = export.document()
    assert (document["celery"]["result_backend"], document["celery"].get("result_database")) == ("django-cache", None)
    assert "result_database" not in document["celery"]


@needs_package
def test_path_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_df.celery_application().conf.changes, "result_backend", "django_results.Backend")
    assert export.document()["celery"]["result_backend"] == "django_results.Backend"


def test_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise LookupError

    monkeypatch.setattr(apps, "get_model", missing)
    with pytest.raises(ExportError, match="INSTALLED_APPS"):
        databases.results_alias()
