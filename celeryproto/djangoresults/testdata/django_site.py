"""django-celery-results itself in a Django site without pages: stores, reads and counts what the tests of this package ask for.

One request per line on stdin, one answer per line on stdout, both JSON. DFWS_TEST_SITE holds the settings as JSON: "databases" is
Django's DATABASES, "celery" Celery's settings, "use_tz" and "time_zone" are Django's.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import django
from django.conf import settings
from django.test.utils import setup_test_environment

SITE = json.loads(os.environ["DFWS_TEST_SITE"])
os.environ["TZ"] = SITE["time_zone"]  # settings.configure() leaves that to us
time.tzset()
if any("mysql" in database["ENGINE"] for database in SITE["databases"].values()):
    import pymysql

    pymysql.install_as_MySQLdb()

settings.configure(
    DATABASES=SITE["databases"],
    USE_TZ=SITE["use_tz"],
    TIME_ZONE=SITE["time_zone"],
    SECRET_KEY="guards nothing",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.messages",
        "django.contrib.sessions",
        "django_celery_results",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ]
            },
        }
    ],
)
django.setup()
setup_test_environment()

from celery import Celery, signature  # noqa: E402
from celery.app.task import Context  # noqa: E402
from celery.result import AsyncResult, GroupResult, result_from_tuple  # noqa: E402
from django.contrib import admin  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connections, router  # noqa: E402
from django.urls import path  # noqa: E402
from django_celery_results import models  # noqa: E402

urlpatterns = [path("admin/", admin.site.urls)]
app = Celery("site", broker="memory://", backend="django-db", set_as_current=True)
app.conf.update(SITE.get("celery", {}))


@app.task(name="site.body", ignore_result=True)
def body(values: Any) -> Any:
    """Is only ever sent."""
    return values


def column(value: Any) -> Any:
    """A column's value as JSON, with its type."""
    if value is None or isinstance(value, (int, str)):
        return value
    return {type(value).__name__: str(value)}


def table(name: str) -> list[dict[str, Any]]:
    """All rows, as the database's driver gives them."""
    model = {"task": models.TaskResult, "group": models.GroupResult, "chord": models.ChordCounter}[name]
    with connections[router.db_for_write(model)].cursor() as cursor:
        cursor.execute(f"SELECT * FROM {model._meta.db_table} ORDER BY id")
        names = [c[0] for c in cursor.description]
        return [{k: column(v) for k, v in zip(names, row, strict=True)} for row in cursor.fetchall()]


def exception(exc: BaseException) -> dict[str, Any]:
    """What an exception is for whoever catches it."""
    return {"raised": type(exc).__name__, "module": type(exc).__module__, "args": repr(exc.args)}


class Commands:
    """The methods are the requests."""

    def migrate(self) -> None:
        for alias in connections:
            call_command("migrate", verbosity=0, database=alias)

    def store(
        self,
        task_id: str,
        status: str,
        result: Any = None,
        raised: list[Any] | None = None,
        traceback: str | None = None,
        request: dict[str, Any] | None = None,
        extended: bool = False,
    ) -> None:
        """Store a result as a worker does; raised is the class of an exception and its arguments."""
        app.conf.result_extended = extended
        if raised is not None:
            result = __builtins__.__dict__[raised[0]](*raised[1])
        context = None
        if request is not None:
            children = [result_from_tuple(r, app=app) for r in request.pop("children", [])]
            context = Context(request)
            context._children = children
        app.backend.store_result(task_id, result, status, traceback=traceback, request=context)

    def rows(self, name: str, keys: list[str]) -> list[dict[str, Any]]:
        """The rows of these tasks or groups."""
        return [row for row in table(name) if row.get("task_id", row.get("group_id")) in keys]

    def read(self, task_id: str) -> dict[str, Any]:
        """All that AsyncResult tells."""
        r = AsyncResult(task_id, app=app)
        value = r.result
        return {
            "state": r.state,
            "ready": r.ready(),
            "result": exception(value) if isinstance(value, BaseException) else repr(value),
            "traceback": r.traceback,
            "children": None if r.children is None else [c.as_tuple() for c in r.children],
            "date_done": str(r.date_done),
            "name": r.name,
            "args": repr(r.args),
            "kwargs": repr(r.kwargs),
            "worker": r.worker,
        }

    def get(self, task_id: str, timeout: float = 20) -> Any:
        try:
            return {"value": AsyncResult(task_id, app=app).get(timeout=timeout, interval=0.05)}
        except Exception as exc:
            return exception(exc)

    def forget(self, task_id: str) -> None:
        AsyncResult(task_id, app=app).forget()

    def cleanup(self, expires: float) -> None:
        app.backend.expires = expires
        app.backend.cleanup()

    def save_group(self, tree: Any) -> None:
        result_from_tuple(tree, app=app).save()

    def restore_group(self, group_id: str) -> Any:
        group = GroupResult.restore(group_id, app=app)
        return None if group is None else group.as_tuple()

    def delete_group(self, group_id: str) -> None:
        app.backend.delete_group(group_id)

    def apply_chord(self, group_id: str, members: list[Any]) -> None:
        results = [result_from_tuple(r, app=app) for r in members]
        app.backend.apply_chord((group_id, results), body.s())

    def part(self, task_id: str, group_id: str, status: str, result: Any = None, raised: list[Any] | None = None) -> list[Any]:
        """End a task of a chord's header as a worker does. Returns what that sent: the arguments of each body."""
        chord = signature("site.body", task_id="body-" + group_id, queue="bodies-" + group_id, app=app)
        request = Context(id=task_id, group=group_id, chord=dict(chord), errbacks=None, chain=None)
        if raised is not None:
            app.backend.mark_as_failure(task_id, __builtins__.__dict__[raised[0]](*raised[1]), request=request)
        else:
            app.backend.mark_as_done(task_id, result, request=request, state=status)
        return self.sent("bodies-" + group_id)

    def sent(self, queue: str) -> list[Any]:
        """Take what is in a queue: the positional arguments of each task."""
        found = []
        with app.connection_for_write() as connection:
            simple = connection.SimpleQueue(queue)
            while True:
                try:
                    message = simple.get(block=False)
                except simple.Empty:
                    simple.close()
                    return found
                message.ack()
                found.append(json.loads(message.body)[0])

    def page(self, model: str, search: str) -> dict[str, Any]:
        """Show the admin's list of a model, and the page of its first match."""
        from django.contrib.auth.models import User
        from django.test import Client

        root, _ = User.objects.get_or_create(username="root", is_superuser=True, is_staff=True)
        client = Client()
        client.force_login(root)
        listing = client.get(f"/admin/django_celery_results/{model}/", {"q": search})
        objects = listing.context["cl"].result_list
        pages = [client.get(f"/admin/django_celery_results/{model}/{o.pk}/change/") for o in objects]
        return {"status": [listing.status_code] + [p.status_code for p in pages], "text": [p.content.decode() for p in pages]}


def main() -> None:
    """Answer until stdin ends."""
    commands = Commands()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"ok": getattr(commands, request.pop("op"))(**request)}
        except Exception as exc:
            answer = {"error": f"{type(exc).__name__}: {exc}"}
        print(json.dumps(answer), flush=True)


main()
