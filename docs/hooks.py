"""What mkdocs does besides: a page made from the protos, and links that leave the site.

Knows mkdocs' hooks. Does not know what pages say.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))

from wire_reference import reference

_LINK: Final = re.compile(r"(?<!!)\[([^\]]*)\]\(((?:\.\./)+[^)#]*)(?:#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the reference of the wire."""
    files.append(File.generated(config, "reference/wire.md", content=reference()))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Leaves of a link to a file that is not on the site its text; a checkout has the file."""
    depth = page.file.src_uri.count("/")

    def replace(match: re.Match[str]) -> str:
        text, target = match.groups()
        return text if target.count("../") > depth else match.group()

    return _LINK.sub(replace, markdown)
