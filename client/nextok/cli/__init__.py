"""The command line, `nextok`.

Knows only whether what it needs is installed: typer and rich come with the extra `cli`, and
the library does without them.
"""

from __future__ import annotations

import sys

_NEEDED = ("typer", "rich")


def main() -> None:
    """Runs the command line and exits with its code."""
    try:
        from nextok.cli.app import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        sys.exit(f"nextok: {error.name} is not installed; try: pip install 'nextok[cli]'")
    except KeyboardInterrupt:  # before any command began
        sys.exit(130)
    run()
