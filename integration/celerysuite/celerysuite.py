"""Pytest plugin: Celery's integration tests with the Go worker as their session worker.

    pytest -p celerysuite t/integration --results FILE                       Celery's own worker; outcomes go to FILE
    pytest -p celerysuite t/integration --results FILE --go-worker BINARY …  the Go worker

The tests and their conftest stay as they are. conftest.py imports the fixture ``celery_session_worker`` from celery.contrib.pytest; this
plugin is loaded before it and puts a fixture in its place that starts the binary. Tests that have nothing to do with the session
worker are left out on both sides.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import celery.contrib.pytest
import pytest
import redis
from celery import Celery, signals
from celery.contrib.testing.worker import setup_app_for_worker
from celery.exceptions import TimeoutError
from celery.result import _set_task_join_will_block, allow_join_result
from celery.utils.nodenames import anon_nodename
from celery.worker import state as worker_state
from celery.worker.request import Request
from celery.worker.strategy import hybrid_to_proto2, proto1_to_proto2
from kombu.message import Message
from kombu.serialization import prepare_accept_content

import celerysuite_site

# The fixture through which a test says that it needs the session worker.
WORKER_FIXTURE: Final = "celery_session_worker"
# How long the Go worker may take to answer its first task, and to stop.
START_TIMEOUT: Final = 20.0
STOP_TIMEOUT: Final = 30.0


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("celerysuite")
    group.addoption("--results", help="file for the outcomes, one JSON object a line")
    group.addoption("--go-worker", help="the program that takes the place of Celery's session worker")
    group.addoption("--worker-log", help="file for what the Go worker logs")
    group.addoption("--exceptions", help="JSON file: tests that cannot apply to the Go worker, or need several tries, and why")
    group.addoption("--longest", type=float, default=0, help="upper bound of every test's own timeout, in seconds; 0: none")
    group.addoption("--no-reruns", action="store_true", help="tests marked as flaky fail at once")
    group.addoption("--part", help="I/N: only every N-th test, beginning with the I-th, counted from 0")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(celery.contrib.pytest)
    path = config.getoption("--exceptions")
    exceptions = json.loads(Path(path).read_text(encoding="utf-8")) if path else {}
    if config.getoption("--results"):
        config.pluginmanager.register(Recorder(Path(config.getoption("--results"))))
    config.pluginmanager.register(Selection(exceptions.get("tests", {}), exceptions.get("races", {})))


class Selection:
    """Chooses the tests, and how long each may take."""

    # Tests that cannot apply to the Go worker fail: there is no need to wait long for that, nor to try again.
    PATIENCE: Final = 20

    def __init__(self, inapplicable: Mapping[str, str], races: Mapping[str, str]) -> None:
        self._inapplicable = inapplicable
        self._races = races

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        index, count = map(int, (config.getoption("--part") or "0/1").split("/"))
        concerned = [item for item in items if item.nodeid in self._inapplicable or needs_worker(item)]
        kept = concerned[index::count]
        left_out = set(items).difference(kept)
        config.hook.pytest_deselected(items=[item for item in items if item in left_out])
        items[:] = kept
        longest = config.getoption("--longest")
        for item in items:
            if item.nodeid in self._races:
                item.add_marker(pytest.mark.flaky(reruns=5))
            if config.getoption("--no-reruns"):
                _remove_markers(item, "flaky")
            if config.getoption("--go-worker") and item.nodeid in self._inapplicable:
                _remove_markers(item, "flaky")
                _shorten(item, self.PATIENCE)
            elif longest:
                _shorten(item, longest)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        if GoWorker.current is not None and (fault := GoWorker.current.fault()):
            pytest.exit(fault, returncode=4)


def needs_worker(item: pytest.Item) -> bool:
    """Tell whether a test has anything to do with the session worker."""
    return WORKER_FIXTURE in getattr(item, "fixturenames", ())


def _shorten(item: pytest.Item, longest: float) -> None:
    marker = item.get_closest_marker("timeout")
    value = None if marker is None else marker.args[0] if marker.args else marker.kwargs.get("timeout")
    if value is None or float(value) > longest:
        item.add_marker(pytest.mark.timeout(longest), append=False)


def _remove_markers(item: pytest.Item, name: str) -> None:
    for node in item.listchain():
        node.own_markers[:] = [marker for marker in node.own_markers if marker.name != name]


class Recorder:
    """Writes what became of each test."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", buffering=1)

    def write(self, **entry: Any) -> None:
        self._file.write(json.dumps(entry) + "\n")

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            self.write(collected=item.nodeid, worker=needs_worker(item))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.write(broken=report.nodeid, text=str(report.longrepr))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.passed and report.when != "call":
            return
        self.write(
            test=report.nodeid,
            outcome=report.outcome,
            subtest=hasattr(report, "context"),
            seconds=round(report.duration, 3),
            text=str(report.longrepr or "")[-8000:] if report.outcome in ("failed", "rerun") else "",
        )

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        self.write(finished=int(exitstatus))


class GoWorker:
    """The process that takes the session worker's place, and what the tests find of it in their own process."""

    # The one of this session, as long as it is to run.
    current: GoWorker | None = None

    def __init__(self, config: pytest.Config, app: Celery, directory: Path) -> None:
        self._app = app
        settings = directory / "settings.json"
        settings.write_text(json.dumps(export(app)), encoding="utf-8")
        settings.chmod(0o600)
        host, port = os.environ.get("REDIS_HOST", "localhost"), os.environ.get("REDIS_PORT", "6379")
        self._redis = redis.StrictRedis(host=host, port=int(port))
        self._log = Path(config.getoption("--worker-log") or directory / "worker.log")
        go_worker = [
            str(Path(config.getoption("--go-worker")).resolve()),
            "--settings", str(settings),
            "--redis", f"{host}:{port}",
            "--node", anon_nodename(),
            "--witness", Witness.KEY,
        ]  # fmt: skip
        errback_worker = [
            sys.executable, "-m", "celery", "-A", "df_websockets", "worker",
            "-P", "solo", "-n", "errbacks@%h", "-Q", celerysuite_site.QUEUE, "-l", "INFO",
            "--without-heartbeat", "--without-mingle", "--without-gossip",
        ]  # fmt: skip
        self._commands = (go_worker, None), (errback_worker, {**os.environ, "DJANGO_SETTINGS_MODULE": celerysuite_site.__name__})
        self._processes: list[subprocess.Popen[bytes]] = []
        self._mirrors: list[Mirror] = [Witness(app, self._redis), Monitor(app)]

    def __enter__(self) -> GoWorker:
        with self._log.open("ab") as log:
            for argv, env in self._commands:
                self._processes.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env))
        try:
            for mirror in self._mirrors:
                mirror.start()
            self._await_ping()
            self._await_errbacks()
        except BaseException:
            self._stop()
            raise
        worker_state.revoked_stamps = RevokedStamps(self._app)
        GoWorker.current = self
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def fault(self) -> str | None:
        """Say what does not run any more, None when all does."""
        for process in self._processes:
            if process.poll() is not None:
                return f"{process.args[0]} has ended with status {process.returncode}: see {self._log}"
        for mirror in self._mirrors:
            if not mirror.is_alive():
                return f"the thread {mirror.name} has ended"
        return None

    def _await_ping(self) -> None:
        from celery.contrib.testing.tasks import ping

        with allow_join_result():
            result = ping.delay()
            for _ in range(int(START_TIMEOUT)):
                assert (fault := self.fault()) is None, fault
                with contextlib.suppress(TimeoutError):
                    assert result.get(timeout=1) == "pong"
                    return
        raise AssertionError(f"the Go worker does not answer: see {self._log}")

    def _await_errbacks(self) -> None:
        """Wait until the Python side has said how errbacks are called."""
        deadline = time.monotonic() + START_TIMEOUT
        while not json.loads(self._redis.hget("dfws:registry", "python") or "{}").get("errbacks"):
            assert time.monotonic() < deadline, "the Python side has published nothing about errbacks"
            time.sleep(0.05)

    def _stop(self) -> None:
        GoWorker.current = None
        for mirror in self._mirrors:
            if mirror.is_alive():
                mirror.stop()
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        statuses = [self._end(process) for process in self._processes]
        if any(statuses):
            raise RuntimeError(f"the Go worker and the errbacks' worker have ended with {statuses}: see {self._log}")

    def _end(self, process: subprocess.Popen[bytes]) -> int:
        try:
            return process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


class Mirror(threading.Thread):
    """Keeps something up in this process that Celery's worker would keep up here."""

    def __init__(self, app: Celery) -> None:
        super().__init__(name=type(self).__name__, daemon=True)
        self.app = app
        self.ended = threading.Event()

    def stop(self) -> None:
        self.ended.set()
        self.join()


class Witness(Mirror):
    """Receives each task that the Go worker runs, before it does, and sends Celery's signal task_received.

    Celery's worker does that when it has received the message. The request is built by Celery from the message as the Go worker has it.
    """

    KEY: Final = "celerysuite:received"

    def __init__(self, app: Celery, client: redis.Redis[bytes]) -> None:
        super().__init__(app)
        self._client = client

    def run(self) -> None:
        while not self.ended.is_set():
            item = self._client.blpop([self.KEY], timeout=1)
            if item is None:
                continue
            envelope = json.loads(item[1])
            try:
                signals.task_received.send(sender=self, request=self._request(envelope))
            finally:
                key = f"{self.KEY}:{envelope['properties']['delivery_tag']}"
                self._client.pipeline().rpush(key, "seen").expire(key, 10).execute()

    def _request(self, envelope: Mapping[str, Any]) -> Request:
        # As celery.worker.strategy.default does.
        properties = envelope["properties"]
        body = base64.b64decode(envelope["body"]) if properties.get("body_encoding") == "base64" else envelope["body"]
        message = Message(
            body=body,
            delivery_tag=properties["delivery_tag"],
            content_type=envelope["content-type"],
            content_encoding=envelope["content-encoding"],
            delivery_info=properties["delivery_info"],
            properties=properties,
            headers=envelope["headers"],
            accept=prepare_accept_content(self.app.conf.accept_content),
        )
        if "task" not in message.headers:
            body, headers, decoded, utc = proto1_to_proto2(message, message.payload)
        elif "args" in message.payload:
            body, headers, decoded, utc = hybrid_to_proto2(message, message.payload)
        else:
            body, headers, decoded, utc = message.body, message.headers, False, self.app.uses_utc_timezone()
        return Request(message, app=self.app, body=body, headers=headers, decoded=decoded, utc=utc)


class Monitor(Mirror):
    """Notes in celery.worker.state which tasks have succeeded, from the Go worker's events."""

    def __init__(self, app: Celery) -> None:
        super().__init__(app)
        self._receiver: Any = None
        self._listening = threading.Event()

    def run(self) -> None:
        with self.app.connection_for_read() as connection:
            self._receiver = self.app.events.Receiver(connection, handlers={"task-succeeded": self._succeeded})
            self._receiver.on_consume_ready = lambda *_, **__: self._listening.set()
            self._receiver.capture(limit=None, timeout=None, wakeup=False)

    def start(self) -> None:
        super().start()
        assert self._listening.wait(START_TIMEOUT), "events cannot be received"

    def stop(self) -> None:
        self._receiver.should_stop = True
        super().stop()

    def _succeeded(self, event: Mapping[str, Any]) -> None:
        worker_state.successful_requests.add(event["uuid"])


class RevokedStamps(dict[str, Any]):
    """Stands for celery.worker.state.revoked_stamps, which tests clear."""

    def __init__(self, app: Celery) -> None:
        super().__init__()
        self._app = app

    def clear(self) -> None:
        replies = self._app.control.broadcast("celerysuite_clear_revoked_stamps", reply=True, limit=1, timeout=10)
        assert replies, "the Go worker does not answer"


def export(app: Celery) -> dict[str, Any]:
    """Return the settings of the tests' application as the Go worker reads them."""
    conf = app.conf
    return {
        "schema": 1,
        "celery": {
            "broker_url": conf.broker_url,
            "broker_transport_options": dict(conf.broker_transport_options),
            "task_default_queue": conf.task_default_queue,
            "result_backend": conf.result_backend,
            "result_backend_transport_options": dict(conf.result_backend_transport_options),
            "result_expires": conf.result_expires.total_seconds(),
            "result_extended": conf.result_extended,
            "task_ignore_result": conf.task_ignore_result,
            "task_serializer": conf.task_serializer,
            "result_serializer": conf.result_serializer,
            "accept_content": sorted(conf.accept_content),
            "timezone": conf.timezone,
            "enable_utc": conf.enable_utc,
        },
        "channel_layer": {"hosts": [{"url": conf.broker_url}]},
    }


def _go_session_worker(
    request: pytest.FixtureRequest,
    celery_session_app: Celery,
    celery_includes: Sequence[str],
    celery_class_tasks: Sequence[Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[GoWorker]:
    """Session fixture: the Go worker, for as long as the tests run."""
    for module in celery_includes:
        celery_session_app.loader.import_task_module(module)
    for class_task in celery_class_tasks:
        celery_session_app.register_task(class_task)
    setup_app_for_worker(celery_session_app, os.environ.get("WORKER_LOGLEVEL", "error"), None)
    _set_task_join_will_block(False)
    with GoWorker(request.config, celery_session_app, tmp_path_factory.mktemp("go-worker")) as worker:
        yield worker


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    # Before conftest.py, which imports the fixture.
    if early_config.known_args_namespace.go_worker:
        fixture = pytest.fixture(scope="session", name=WORKER_FIXTURE)(_go_session_worker)
        celery.contrib.pytest.celery_session_worker = fixture
