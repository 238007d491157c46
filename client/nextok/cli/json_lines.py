"""Values as JSON, one object a line.

Knows the terminal's encoding. How a value becomes JSON is in `plain`.
"""

from __future__ import annotations

import json
import sys

from nextok.plain import to_json

__all__ = ["to_json", "write_line"]


def write_line(value: object) -> None:
    """Writes one value to stdout, at once, so that a program downstream sees it as it comes."""
    utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    # Infinity and NaN are not JSON, and no server of ours sends them.
    line = json.dumps(to_json(value), ensure_ascii=not utf8, allow_nan=False)
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
