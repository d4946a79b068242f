"""``manage.py dfws``: what the Go side needs from the site, and the gateway itself."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from argparse import REMAINDER
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from redis.exceptions import RedisError

import dfws
from dfws import conf, export, registry
from dfws.plain import ExportError

# Options that manage.py itself takes wherever they stand, with the next argument as value.
_DJANGO_OPTIONS = ("--settings", "--pythonpath")
_ACTIONS = ("settings", "publish", "gateway")


class Command(BaseCommand):
    """Exports the settings, publishes the handlers, or runs the gateway."""

    help = "Exports this site's settings for the dfws gateway and Go workers, publishes its signals, or runs the gateway."

    def run_from_argv(self, argv: list[str]) -> None:
        """Leave everything behind ``gateway`` to that program, options too."""
        action = next((argument for argument in argv[2:] if argument in _ACTIONS), None)
        if action == "gateway":
            end = argv.index(action, 2) + 1
            argv = [*argv[:end], "--", *_without_django_options(argv[end:])]
        super().run_from_argv(argv)

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the three actions."""
        actions = parser.add_subparsers(dest="action", required=True, metavar="action")
        write = actions.add_parser("settings", help="write the settings that the Go side needs")
        write.add_argument("--output", required=True, metavar="FILE", help="file to write (mode 0600), or - for standard output")
        actions.add_parser("publish", help="publish the signals that this site handles")
        gateway = actions.add_parser("gateway", help="export the settings and run `dfws gateway`")
        gateway.add_argument("arguments", nargs=REMAINDER, metavar="...", help="arguments of `dfws gateway`")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run one action."""
        if not conf.enabled():
            raise CommandError("dfws is switched off (DFWS_ENABLED).")
        action = options["action"]
        if action == "settings":
            self._settings(options["output"])
        elif action == "publish":
            self._publish()
        else:
            arguments = options["arguments"]
            self._gateway(arguments[1:] if arguments[:1] == ["--"] else arguments)

    def _settings(self, output: str) -> None:
        content = _export()
        if output == "-":
            self.stdout.write(content, ending="")
        else:
            _write(Path(output), content)
        self._publish_if_possible()

    def _publish(self) -> None:
        try:
            written = registry.publish()
        except (RedisError, OSError, ValueError) as error:
            raise CommandError(f"Redis did not take the registry: {type(error).__name__}.") from error
        self.stdout.write("published" if written else "published before, nothing changed")

    def _publish_if_possible(self) -> None:
        """Publish, so that the gateway knows the signals before the first page is served; the serving processes do it anyway."""
        try:
            registry.publish()
        except (RedisError, OSError, ValueError) as error:
            self.stderr.write(f"the signals are not published yet, Redis is away: {type(error).__name__}")

    def _gateway(self, arguments: list[str]) -> None:
        binary = find_binary()
        path = _run_folder() / f"settings-{_site_id()}.json"
        _write(path, _export())
        self._publish_if_possible()
        self.stdout.flush()
        self.stderr.flush()
        os.execv(binary, [binary, "gateway", "--settings", str(path), *arguments])


def find_binary() -> str:
    """Return the path of the program dfws: DFWS_BINARY, the one in this package, the one in PATH."""
    configured = conf.get().binary
    if configured is not None:
        if not os.access(configured, os.X_OK):
            raise CommandError("DFWS_BINARY is no program that can be run.")
        return configured
    packaged = Path(dfws.__file__).parent / "bin" / "dfws"
    if os.access(packaged, os.X_OK):
        return str(packaged)
    found = shutil.which("dfws")
    if found is None:
        raise CommandError("The program dfws was not found: set DFWS_BINARY, or put it into PATH.")
    return found


def _export() -> str:
    try:
        return export.text()
    except ExportError as error:
        raise CommandError(str(error)) from error


def _write(path: Path, content: str) -> None:
    try:
        export.write(path, content)
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}.") from error


def _run_folder() -> Path:
    """Return a folder that only this user can read. In a folder that everybody can write to, somebody else may have made it first."""
    configured = conf.get().run_dir
    base = configured or os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    folder = Path(base) if configured else Path(base) / f"dfws-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, parents=configured is not None, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise CommandError(f"{folder}: {error.strerror}.") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise CommandError(f"{folder} must be a folder of this user that nobody else can use (mode 0700); see DFWS_RUN_DIR.")
    return folder


def _site_id() -> str:
    """Tell the sites of one user apart."""
    module = getattr(settings, "SETTINGS_MODULE", None) or ""
    return hashlib.sha256(f"{module}\0{os.getcwd()}".encode()).hexdigest()[:12]


def _without_django_options(arguments: list[str]) -> list[str]:
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument in _DJANGO_OPTIONS:
            skip = True
        elif argument.partition("=")[0] not in _DJANGO_OPTIONS:
            kept.append(argument)
    return kept
