"""``python -m dfws settings --output FILE``: exports the settings of a site that has not installed the app.

It needs DJANGO_SETTINGS_MODULE and this package on the path, and no change of the site.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import django


def main() -> int:
    """Write the settings."""
    parser = argparse.ArgumentParser(prog="python -m dfws", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    write = actions.add_parser("settings", help="write the settings that the Go side needs")
    write.add_argument("--output", required=True, metavar="FILE", help="file to write (mode 0600), or - for standard output")
    options = parser.parse_args()
    django.setup()
    from dfws import export
    from dfws.plain import ExportError

    try:
        content = export.text()
        if options.output == "-":
            sys.stdout.write(content)
        else:
            export.write(Path(options.output), content)
    except (ExportError, OSError) as error:
        print(f"dfws: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
