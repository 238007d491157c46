"""docs/configuration.md says what the settings are."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from nextok_server.config import Config

DOCS = Path(__file__).parents[2] / "docs"


def made_page():
    spec = importlib.util.spec_from_file_location(
        "make_configuration", DOCS / "make_configuration.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.page()


def test_the_page_is_that_of_the_settings_as_they_are():
    page = made_page()
    stands = (DOCS / "configuration.md").read_text(encoding="utf-8")
    assert stands == page, "make docs-configuration renews it"


def test_every_setting_has_an_entry_with_its_flag_variable_and_range():
    page = made_page()
    for name in Config.model_fields:
        assert f"\n### {name}\n" in page
        assert f"`NEXTOK_{name.upper()}`" in page
    assert "`--prefill-chunk` · `NEXTOK_PREFILL_CHUNK` · whole number, from 2 to 1,024 " in page
    assert "one of `debug`, `info`, `warning`, `error` · default: `info`" in page
