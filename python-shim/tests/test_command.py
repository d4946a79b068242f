from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from dfws.management.commands import dfws as command
from tests.conftest import ROOT, Server, manage, messages, wait_until


def test_settings_into_a_file(redis: Any, tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    result = manage("dfws", "settings", "--output", str(path))
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(path.read_text())["schema"] == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert redis.hexists("dfws:registry", "python")


def test_settings_on_standard_output() -> None:
    result = manage("dfws", "settings", "--output", "-")
    assert json.loads(result.stdout)["site"]["module"] == "tests"


def test_settings_while_redis_is_away(redis_server: Server) -> None:
    redis_server.stop()
    try:
        output, errors = StringIO(), StringIO()
        call_command("dfws", "settings", "--output", "-", stdout=output, stderr=errors)
    finally:
        redis_server.start()
    assert json.loads(output.getvalue())["schema"] == 1
    assert "not published yet" in errors.getvalue()


def test_settings_into_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="No such file"):
        call_command("dfws", "settings", "--output", str(tmp_path / "nowhere" / "settings.json"))


def test_publish(redis: Any) -> None:
    output = StringIO()
    call_command("dfws", "publish", stdout=output)
    call_command("dfws", "publish", stdout=output)
    assert output.getvalue() == "published\npublished before, nothing changed\n"


def test_publish_fails_without_redis(redis_server: Server) -> None:
    redis_server.stop()
    try:
        with pytest.raises(CommandError, match="ConnectionError"):
            call_command("dfws", "publish")
    finally:
        redis_server.start()


def test_switched_off() -> None:
    with override_settings(DFWS_ENABLED=False), pytest.raises(CommandError, match="DFWS_ENABLED"):
        call_command("dfws", "publish")


# --- gateway ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Stands in for the gateway: prints its arguments and its process."""
    path = tmp_path / "bin" / "dfws"
    path.parent.mkdir()
    path.write_text(f"#!{sys.executable}\nimport json, os, sys\nprint(json.dumps([os.getpid(), *sys.argv[1:]]))\n")
    path.chmod(0o755)
    return path


def test_gateway(program: Path, tmp_path: Path) -> None:
    result = manage(
        "dfws",
        "--verbosity=0",
        "gateway",
        "--listen",
        "127.0.0.1:0",
        "--settings=tests.settings",
        "--pythonpath",
        str(ROOT),
        "--",
        "x",
        PATH=f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        XDG_RUNTIME_DIR=str(tmp_path),
    )
    assert result.returncode == 0, result.stderr
    _, *arguments = json.loads(result.stdout)
    assert arguments[:2] == ["gateway", "--settings"]
    assert arguments[3:] == ["--listen", "127.0.0.1:0", "--", "x"]
    path = Path(arguments[2])
    assert json.loads(path.read_text())["schema"] == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_gateway_replaces_the_process(program: Path, tmp_path: Path) -> None:
    """So that signals of a supervisor reach the gateway itself."""
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "XDG_RUNTIME_DIR": str(tmp_path)}
    environment["PATH"] = f"{program.parent}{os.pathsep}{environment['PATH']}"
    with subprocess.Popen(
        [sys.executable, "-m", "django", "dfws", "gateway"], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        output, _ = process.communicate(timeout=60)
    assert json.loads(output)[0] == process.pid


def test_binary_is_looked_for(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CommandError, match="DFWS_BINARY"):
        command.find_binary()
    monkeypatch.setenv("PATH", str(program.parent))
    assert command.find_binary() == str(program)
    with override_settings(DFWS_BINARY=str(program)):
        assert command.find_binary() == str(program)
    with override_settings(DFWS_BINARY=str(tmp_path / "nothing")), pytest.raises(CommandError, match="DFWS_BINARY"):
        command.find_binary()


def test_packaged_binary_comes_before_path(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfws.__file__", str(program.parent.parent / "__init__.py"))
    monkeypatch.setenv("PATH", "")
    assert command.find_binary() == str(program)


@pytest.mark.parametrize("trap", ["open", "link", "file"])
def test_folder_that_somebody_else_can_use_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trap: str) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder = tmp_path / f"dfws-{os.getuid()}"
    if trap == "open":
        folder.mkdir(mode=0o755)
    elif trap == "link":
        (tmp_path / "theirs").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "theirs")
    else:
        folder.write_text("")
    with pytest.raises(CommandError, match=r"DFWS_RUN_DIR|File exists"):
        command._run_folder()


def test_folder_of_the_setting(tmp_path: Path) -> None:
    with override_settings(DFWS_RUN_DIR=str(tmp_path / "run" / "dfws")):
        assert command._run_folder() == tmp_path / "run" / "dfws"


# --- a real worker ---------------------------------------------------------------------------------------------------


def test_celery_worker_publishes_and_resolves(redis: Any, tmp_path: Path) -> None:
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONPATH": str(ROOT)}
    environment["DFWS_TEST_DATABASE"] = str(tmp_path / "db.sqlite3")
    arguments = [sys.executable, "-m", "django", "worker", "-Q", "celery", "-c", "1", "--pool", "prefork", "-l", "WARNING"]
    with (tmp_path / "worker.log").open("wb") as log:
        worker = subprocess.Popen(arguments, cwd=ROOT, env=environment, stdout=log, stderr=log)
        try:
            wait_until(lambda: redis.hexists("dfws:registry", "python"), 60)
            from df_websockets.window_info import WindowInfo

            from dfws.tasks import resolve_queues

            options = {"signal": "shop.dynamic", "window_info": WindowInfo().to_dict(), "opts": {"shard": 1}, "from_client": False}
            resolve_queues.apply_async(kwargs=options, queue="celery")
            wait_until(lambda: redis.exists("shop-1"), 60)
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.wait(60)
    [(task, args, _, _)] = messages(redis, "shop-1")
    assert (task, args[0], args[6]) == ("df_websockets.tasks._server_signal_call", "shop.dynamic", "shop-1")
