from __future__ import annotations

import logging
import re
from dataclasses import fields
from typing import Any

import pytest
from df_websockets import tasks
from django.apps import apps
from django.test import override_settings

from dfws import _df, conf, store
from tests import settings
from tests.conftest import ROOT, run


def test_defaults() -> None:
    with override_settings(DFWS_ENABLED=None):
        assert conf.get() == conf.Conf()


def test_inert_under_the_test_environment_unless_asked_for() -> None:
    assert [_enabled(value) for value in (None, True, False)] == [False, True, False]


def test_active_outside_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("django.test.utils._TestState.saved_data")
    assert [_enabled(value) for value in (None, True, False)] == [True, True, False]


def _enabled(value: bool | None) -> bool:
    with override_settings(DFWS_ENABLED=value):
        return conf.enabled()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ENABLED", "yes"),
        ("ENABLED", 1),
        ("REDIS_URL", 6379),
        ("REDIS_URL", ""),
        ("KEY_PREFIX", b"dfws:"),
        ("GO_QUEUE", None),
        ("GO_QUEUE", ""),
        ("GATEWAY", ["--listen"]),
        ("GATEWAY", {"listen": None}),
        ("GATEWAY", {"allow-origin": [1]}),
        ("TICKET_PERMISSIONS", "auto"),
        ("BINARY", ["dfws"]),
        ("REGISTRY_TTL", 0),
        ("REGISTRY_TTL", True),
        ("REDIS_TIMEOUT", float("inf")),
        ("REDIS_TIMEOUT", "1"),
    ],
)
def test_malformed_values_are_named_but_not_shown(name: str, value: Any) -> None:
    with override_settings(**{f"DFWS_{name}": value}):
        [fault] = conf.faults()
        assert fault.startswith(f"DFWS_{name} must be ")
        assert getattr(conf.get(), name.lower()) == getattr(conf.Conf(), name.lower())


def test_unknown_names() -> None:
    with override_settings(DFWS_REDIS="redis://:secret@h"):
        assert conf.unknown() == ["DFWS_REDIS"]


def test_key_prefix_follows_the_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    assert store.registry_key() == "dfws:registry"
    monkeypatch.setitem(_df.celery_conf().changes, "broker_transport_options", {"global_keyprefix": "site1:"})
    assert store.registry_key() == "site1:dfws:registry"
    with override_settings(DFWS_KEY_PREFIX="mine:"):
        assert store.registry_key() == "mine:registry"


def test_redis_is_the_brokers_by_default() -> None:
    assert store.redis_url() == f"{settings.REDIS_URL}/0"
    with override_settings(DFWS_REDIS_URL="redis://elsewhere/1"):
        assert store.redis_url() == "redis://elsewhere/1"


def test_celery_settings_without_loading_celery() -> None:
    """Reading the broker for a system check must not move settings or configure logging."""
    program = (
        "import django, sys; django.setup()\n"
        "from dfws import _df\n"
        "from django.conf import settings\n"
        "conf = _df.celery_conf()\n"
        "assert conf.broker_write_url == settings.BROKER_URL, conf.broker_write_url\n"
        "assert conf.result_backend == settings.CELERY_RESULT_BACKEND\n"
        "assert conf.timezone == 'UTC' and conf.task_default_queue == 'celery'\n"
        "assert 'df_websockets.celery' not in sys.modules\n"
        "_df.celery_application()\n"
        "assert conf.broker_write_url == _df.celery_conf().broker_write_url\n"
    )
    python(program)


def test_switched_off_nothing_is_touched() -> None:
    python(
        "from tests import settings; settings.DFWS_ENABLED = False\n"
        "import django; django.setup()\n"
        "from df_websockets import decorators, middleware, tasks\n"
        "from django.core.cache import caches\n"
        "from django.contrib.auth.signals import user_logged_out\n"
        "assert tasks.REGISTERED_SIGNALS is decorators.REGISTERED_SIGNALS\n"
        "assert tasks.caches is caches\n"
        "assert tasks.call_task.__code__.co_filename.endswith('tasks.py')\n"
        "assert not hasattr(middleware.WebsocketMiddleware.process_response, '__wrapped__')\n"
        "assert not any('dfws' in str(receiver[0]) for receiver in user_logged_out.receivers)\n"
    )


def test_unexpected_internals_leave_everything_as_it_was() -> None:
    python(
        "from df_websockets import constants\n"
        "import django\n"
        "from django.apps import apps\n"
        "from unittest import mock\n"
        "with mock.patch('dfws.conf.faults', return_value=['DFWS_X is wrong.']): django.setup()\n"
        "from df_websockets import decorators, tasks\n"
        "assert tasks.REGISTERED_SIGNALS is decorators.REGISTERED_SIGNALS\n",
        expected="dfws is not active: DFWS_X is wrong.",
    )


def test_problems_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_df._INSTALLED, "done", False)
    monkeypatch.setattr(tasks, "call_task", lambda queue: None)
    monkeypatch.setattr(tasks, "_trigger_signal_async", lambda: None)
    monkeypatch.delattr(tasks, "_server_signal_call")
    found = _df.problems()
    assert [problem.split()[0] for problem in found] == [
        "tasks.REGISTERED_SIGNALS",
        "tasks._trigger_signal_async",
        "call_task",
        "tasks._server_signal_call",
    ]


def test_installing_twice_is_installing_once(caplog: pytest.LogCaptureFixture) -> None:
    view = tasks.REGISTERED_SIGNALS
    with caplog.at_level(logging.ERROR):
        apps.get_app_config("dfws").ready()
    assert tasks.REGISTERED_SIGNALS is view
    assert not caplog.records


def python(program: str, expected: str = "") -> None:
    """Run a program in a fresh interpreter with the site's settings."""
    result = run("-c", program)
    assert result.returncode == 0, result.stderr
    assert expected in result.stderr


def test_readme_lists_every_setting() -> None:
    table = (ROOT / "README.md").read_text().partition("## Settings")[2].partition("## ")[0]
    named = re.findall(r"^\| `DFWS_(\w+)`", table, flags=re.MULTILINE)
    assert named == [field.name.upper() for field in fields(conf.Conf)]
