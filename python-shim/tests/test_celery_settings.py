"""Exports of Celery applications that are no site's; that Go reads all of it, and has Celery's defaults, is tested in compat/."""

from __future__ import annotations

import re
from typing import Any

import pytest
from celery import Celery
from celery.app.defaults import _TO_OLD_KEY, DEFAULTS  # type: ignore[attr-defined]
from kombu import Exchange, Queue
from kombu.common import Broadcast

from dfws import celery_settings
from dfws.celery_settings import task_annotations, task_routes
from tests.conftest import ROOT


def application(**settings: Any) -> Celery:
    app = Celery("site", set_as_current=False)
    app.conf.update({"broker_url": "redis://h", **settings})
    return app


def exported(**settings: Any) -> dict[str, Any]:
    return celery_settings.export(application(**settings))


@pytest.mark.parametrize("spelling", ["lower", "old", "namespace"])
def test_every_spelling_of_the_names(spelling: str) -> None:
    """As config_from_object reads them from a module of settings."""
    values = {
        "broker_url": "redis://h/5",
        "task_acks_late": True,
        "task_default_queue": "main",
        "worker_concurrency": 3,
        "result_expires": 60,
        "event_queue_prefix": "ev",
    }
    if spelling == "lower":
        source = values
    elif spelling == "old":
        source = {_TO_OLD_KEY[name]: value for name, value in values.items()}
    else:
        source = {f"CELERY_{name.upper()}": value for name, value in values.items()}
    app = Celery("site", set_as_current=False)
    app.config_from_object(type("Settings", (), source), namespace="CELERY" if spelling == "namespace" else None)
    found = celery_settings.export(app)
    assert {name: found[name] for name in values} == values


def test_settings_that_this_celery_has_not_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(DEFAULTS, "worker_direct")
    found = exported()
    assert "worker_direct" not in found
    assert "redis_client_name" in found  # which no table of Celery's has


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("worker_concurrency", None, None),
        ("worker_concurrency", 0, None),
        ("worker_concurrency", "8", 8),
        ("worker_concurrency", " AUTO ", "auto"),
        ("worker_concurrency", "all", None),
        ("task_default_delivery_mode", "persistent", 2),
        ("task_default_delivery_mode", 1, 1),
        ("task_default_rate_limit", 10, "10"),
        ("task_acks_on_failure", None, None),
        ("task_acks_on_failure", 0, False),
        ("broker_connection_max_retries", float("inf"), None),
        ("broker_failover_strategy", len, {"unsupported": "function builtins.len"}),
        ("redis_socket_timeout", "5", 5),
        ("redis_backend_credential_provider", "site.Provider", {"unsupported": "site.Provider"}),
        ("redis_backend_credential_provider", object(), {"unsupported": "object builtins.object"}),
        ("result_backend_transport_options", {"sentinel_kwargs": {"password": b"pw"}}, {"sentinel_kwargs": {"password": "pw"}}),
        (
            "broker_transport_options",
            {"a": float("nan"), "b": b"\xff"},
            {"a": {"unsupported": "nan"}, "b": {"unsupported": "bytes that are no text"}},
        ),
        ("result_backend", "disabled", None),
        ("result_backend", "rpc://", "rpc://"),
        ("result_backend", "cache+memcached://h", "cache+memcached://h"),
        ("result_backend", Celery, "class celery.app.base.Celery"),
        ("task_always_eager", True, True),
    ],
)
def test_values(name: str, value: Any, expected: Any) -> None:
    if name not in exported():
        pytest.skip(f"this Celery has no {name}")
    assert exported(**{name: value})[name] == expected


def test_signed_messages_are_named() -> None:
    assert exported()["security"] == []
    assert exported(security_key="/key", security_cert_store="/store")["security"] == ["security_key", "security_cert_store"]


# --- queues ----------------------------------------------------------------------------------------------------------


def test_queues_are_those_of_the_application() -> None:
    queues = (Queue("a"), Queue("b", Exchange("x", "topic"), routing_key="b.#", expires=60, max_priority=5), Broadcast("news"))
    found = exported(task_queues=queues, task_default_exchange="main", task_default_routing_key="key")["task_queues"]
    assert [(queue["exchange"]["name"], queue["exchange"]["type"], queue["routing_key"]) for queue in found] == [
        ("main", "direct", "key"),
        ("x", "topic", "b.#"),
        ("news", "fanout", "key"),
    ]
    assert (found[1]["expires"], found[1]["max_priority"]) == (60, 5)
    assert (found[2]["alias"], found[2]["broadcast"], found[2]["unique"]) == ("news", True, True)
    assert "broadcast" not in found[0]


def test_without_queues() -> None:
    assert exported()["task_queues"] is None


# --- routes and annotations ------------------------------------------------------------------------------------------


class Router:
    def route_for_task(self, task: str, args: Any = None, kwargs: Any = None) -> None:
        """Route nothing."""


def test_routes() -> None:
    table = {
        "exact": "one",
        "glob.*": {"queue": "two", "priority": 3, "exchange": Exchange("x", "topic")},
        re.compile("re.x", re.IGNORECASE | re.DOTALL): [("queue", "three")],
        "declared": {"queue": Queue("four")},
    }
    (router,) = task_routes(table)
    assert router["rules"][:1] == [{"task": "exact", "route": {"queue": "one"}}]
    assert router["rules"][1]["task"] == "declared"
    assert router["rules"][1]["route"]["queue"]["name"] == "four"
    assert router["rules"][2:] == [
        {"glob": "glob.*", "route": {"queue": "two", "priority": 3, "exchange": "x"}},
        {"regex": "re.x", "flags": "is", "route": {"queue": "three"}},
    ]


def test_routes_that_only_python_can_run() -> None:
    routers = ["site.Router", Router(), Router, test_routes, {"a": None}, {re.compile(b"x"): "q"}, 5, [("a", "b", "c")]]
    found = task_routes(routers)
    module = __name__
    assert [router.get("unsupported") for router in found] == [
        "router site.Router",
        f"object {module}.Router",
        f"class {module}.Router",
        f"function {module}.test_routes",
        None,
        None,
        "object builtins.int",
        "a router that is no table of task names and routes",
    ]
    assert found[4] == {"rules": [{"task": "a", "unsupported": "a route that is a NoneType"}]}
    assert found[5] == {"rules": [{"unsupported": "regular expression for bytes", "route": {"queue": "q"}}]}
    assert celery_settings.what_only_python_runs(found)[0] == "router site.Router"


@pytest.mark.parametrize("value", [None, (), []])
def test_no_routes(value: Any) -> None:
    assert task_routes(value) == task_annotations(value) == []


def test_one_router_without_a_list() -> None:
    assert task_routes("site.Router") == [{"unsupported": "router site.Router"}]


def test_annotations() -> None:
    found = task_annotations([{"*": {"rate_limit": "1/s", "on_failure": print}}, "site.All", Router(), {"a": 5}])
    assert found == [
        {"tasks": {"*": {"rate_limit": "1/s", "on_failure": {"unsupported": "function builtins.print"}}}},
        {"unsupported": "class site.All"},
        {"unsupported": f"object {__name__}.Router"},
        {"unsupported": "a table of annotations whose values are no tables"},
    ]
    assert task_annotations({"a": {"x": 1}}) == [{"tasks": {"a": {"x": 1}}}]


def test_readme_names_what_is_exported() -> None:
    """In the table, a name that starts with an underscore has the first word of the last whole name in front."""
    text = (ROOT / "README.md").read_text()
    table = text[text.index("| Celery's settings |") : text.index("## Limits")]
    named: set[str] = set()
    word = ""
    for name in re.findall(r"`([a-z_]+)`", table):
        if not name.startswith("_"):
            word = name.partition("_")[0]
        named.add(word + name if name.startswith("_") else name)
    assert not set(exported()) - named - {"security"}
