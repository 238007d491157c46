"""`nextok-server token NAME`: makes a token.

Knows: the command line. Does not know: how tokens are made, what they are good for.
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime, timedelta

from nextok_server.tokens_file import SCOPES, make_token

_MOST_DAYS = 36_500


def main(arguments: list[str]) -> None:
    """Writes the entry for the file on standard output, the token on standard error."""
    parser = argparse.ArgumentParser(
        prog="nextok-server token",
        description="Makes a token. Its entry for the file of --tokens-file goes to standard "
        "output; the token itself is shown once, on standard error, and is kept nowhere.",
        epilog="nextok-server token alice --scope generate --days 90 >> tokens.toml",
    )
    parser.add_argument("name", metavar="NAME", help="Whose it is.")
    parser.add_argument(
        "--scope",
        action="append",
        choices=SCOPES,
        help="What it is good for; may be repeated. Default: everything.",
    )
    parser.add_argument("--days", type=int, help="Days that it is good for. Default: without end.")
    given = parser.parse_args(arguments)
    if given.days is not None and not 1 <= given.days <= _MOST_DAYS:
        parser.error(f"--days is {given.days}, expected 1 to {_MOST_DAYS}")
    expires = None
    if given.days is not None:
        expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=given.days)
    try:
        token, entry = make_token(given.name, given.scope or SCOPES, expires)
    except ValueError as error:
        parser.error(str(error))
    print(entry.toml())
    print(token, file=sys.stderr)
