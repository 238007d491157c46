"""Takes the pictures of the page that README and docs/web.md show, of the page as it is.

python docs/make_page_pictures.py ARTIFACT      (needs the extras server, web and dev, and Chromium)
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

HERE = Path(__file__).parent
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
Show = Callable[[Page], None]
Scheme = Literal["light", "dark"]
WIDE: ViewportSize = {"width": 1440, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 1180}
PATIENCE_MS = 120_000
COLOURS = 192  # the page has few; the files are a third as large with a palette
MOST_SHADED = """
tokens => tokens
  .map((token) => parseInt(token.style.getPropertyValue("--heat")))
  .reduce((best, heat, at, all) => (heat > all[best] ? at : best), 0)
"""
TEXT = (
    "The little girl walked into the forest, and there she met a very old xylophone who spoke "
    'only Latin. "Where are you going?" he asked. "To see my grandmother," said the girl.'
)


def generate(page: Page) -> None:
    """A story, and a branch of it."""
    page.get_by_label("Temperature", exact=True).fill("0.75")
    page.get_by_label("Top p", exact=True).fill("0.95")
    page.get_by_role("textbox", name="Prompt").fill("Once upon a time there was")
    page.get_by_label("up to").fill("70")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#note")).to_contain_text("70 tokens")
    page.locator("#token-14").click()
    page.locator("#step li .candidate:not([aria-current])").nth(1).click()
    expect(page.locator("#note")).to_contain_text("70 tokens")
    surprising = page.locator("#text .token:not(.pointer)").evaluate_all(MOST_SHADED)
    page.locator(f"#token-{surprising}").click()
    page.get_by_label("Top p", exact=True).fill("1")
    page.get_by_label("Top k", exact=True).fill("8")
    expect(page.locator("#step li .candidate:not(.cut)")).to_have_count(8)


def score(page: Page) -> None:
    """A text, with its least likely word looked at."""
    page.get_by_role("tab", name="Score").click()
    page.get_by_role("textbox", name="Text").fill(TEXT)
    page.get_by_role("button", name="Score").click()
    expect(page.locator("#totals")).to_contain_text("Perplexity")
    page.locator(".token", has_text="Latin").click()


def take(
    browser: Browser, url: str, name: str, scheme: Scheme, size: ViewportSize, show: Show
) -> None:
    """Takes one picture."""
    page = browser.new_page(viewport=size, color_scheme=scheme)
    page.goto(url)
    expect(page.locator("#step .candidate").first).to_be_visible()
    show(page)
    page.mouse.move(0, 0)
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(500)  # until bars have moved
    picture = Image.open(BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(COLOURS).save(HERE / f"{name}.png", optimize=True)
    page.close()


def main() -> None:
    """Serves the artifact and its page, and takes every picture."""
    command = [sys.executable, "-m", "nextok", "web", "--artifact", sys.argv[1]]
    served = subprocess.Popen(
        [*command, "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True
    )
    assert served.stdout is not None
    url = served.stdout.readline().split()[-1]
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        take(browser, url, "page-generate", "light", WIDE, generate)
        take(browser, url, "page-score", "dark", WIDE, score)
        take(browser, url, "page-phone", "dark", PHONE, generate)
        browser.close()
    served.terminate()
    served.wait()


if __name__ == "__main__":
    main()
