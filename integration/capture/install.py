"""Puts recorded goldens where the Go packages read them, and says in a MANIFEST.json how they came about.

    python install.py <folder with the recordings> <repository>
    python install.py --cases <folder of a package> …    prints the names of the goldens that packages use

A package uses the files that it has: a recording of another name is not installed. A golden without a recording stays as it is and is
named in the output.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import shutil
import sys

# folder of goldens in the repository → folder of recordings
FOLDERS = {
    "celeryproto/testdata/celery": "celery",
    "celeryproto/testdata/bus": "celery",
    "celeryproto/testdata/match": "matching",
    "celeryproto/testdata/serialized": "serialized",
    "celeryproto/canvas/testdata": "celery",
    "celeryproto/redisbroker/testdata": "celery",
    "channelslayer/testdata": "channels",
    "compat/testdata": "df_websockets",
    "compat/dispatch/testdata": "df_websockets",
    "worker/testdata/df_websockets": "df_websockets",
    "compat/djangostate/testdata/django-4.2": "django-4.2",
    "compat/djangostate/testdata/django-5.2": "django-5.2",
    "compat/djangostate/testdata/django-6.0": "django-6.0",
    "compat/djangostate/testdata/django-6.1": "django-6.1",
}
# Goldens that come from somewhere else than the recordings of their folder.
ELSEWHERE = {("compat/testdata", "parse_cookie.json"): "django-5.2"}
# What no recording makes: settings.json is an example of the schema, not a measurement.
BY_HAND = {"MANIFEST.json", "settings.json"}
COMMAND = "integration/capture/run.sh"


def goldens(folder: str) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name.endswith(".json") and name not in BY_HAND)


def install(recordings: str, repository: str) -> list[str]:
    missing = []
    for folder, source in FOLDERS.items():
        target = os.path.join(repository, folder)
        files, versions = {}, {}
        for name in goldens(target):
            made = os.path.join(recordings, ELSEWHERE.get((folder, name), source), name)
            if os.path.exists(made):
                shutil.copyfile(made, os.path.join(target, name))
            else:
                missing.append(os.path.join(folder, name))
            with open(os.path.join(target, name), "rb") as file:
                content = file.read()
            files[name] = hashlib.sha256(content).hexdigest()
            versions.update({key: value for key, value in json.loads(content)["versions"].items() if value})
        manifest = {
            "command": COMMAND,
            "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
            "versions": dict(sorted(versions.items())),
            "sha256": files,
        }
        with open(os.path.join(target, "MANIFEST.json"), "w") as file:
            json.dump(manifest, file, indent=1)
            file.write("\n")
    return missing


def main() -> None:
    if sys.argv[1] == "--cases":
        print("\n".join(sorted({name.removesuffix(".json") for folder in sys.argv[2:] for name in goldens(folder)})))
        return
    missing = install(*sys.argv[1:3])
    if missing:
        print("not recorded, left as they were:\n  " + "\n  ".join(missing), file=sys.stderr)
    # Django 6 needs a newer Python than the site's, which may not be installed; anything else should have been recorded.
    if any("/django-6" not in path for path in missing):
        sys.exit(1)


if __name__ == "__main__":
    main()
