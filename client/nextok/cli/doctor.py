"""`nextok doctor`: what is wrong, if anything is.

Knows how findings are shown. What is looked at is in `diagnosis`.
"""

from __future__ import annotations

import typer

from nextok.cli import connecting, json_lines, looks, options
from nextok.cli.ending import ExitCode
from nextok.diagnosis import Verdict, diagnose

_COLOURS = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAILED: "red"}


def doctor(
    target: options.Target = options.DEFAULT_TARGET,
    json: options.Json = False,
) -> None:
    """Looks for what is wrong, from what is installed here to a token of the server's.

    Exits with 0 where nothing has failed. With --json: one object a finding.
    """
    code = ExitCode.OK
    console = looks.console()
    for finding in diagnose(lambda: connecting.client(target), target):
        if finding.verdict is Verdict.FAILED:
            code = ExitCode.UNREACHABLE if finding.unreachable else ExitCode.ERROR
        if json:
            shown = {"check": finding.check, "verdict": finding.verdict, "detail": finding.detail}
            json_lines.write_line(shown)
        else:
            console.print(f"{finding.verdict:8}", style=_COLOURS[finding.verdict], end="")
            console.print(f"{finding.check:13} {looks.clean(finding.detail)}")
    if code is not ExitCode.OK:
        raise typer.Exit(code)
