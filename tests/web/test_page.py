"""The page, in a real browser, as people use it: typing, clicking, with the keyboard alone."""

import math
import re
import shutil

import pytest
from playwright.sync_api import expect, sync_playwright
from support.fake_service import FakeService, Hold, generation, serving
from support.web import web_program

from nextok import Client

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed (Debian: apt-get install chromium)"
)
# No sandbox where tests run as root, and nothing that a browser does on its own.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Far longer than anything takes here; a test that needs it has failed.
expect.set_options(timeout=30_000)
PROMPT = "I love Generative AI"


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Opens pages; none of them may have had an error, or asked anybody but its own server."""
    opened, wrong = [], []

    def open_at(url, **options):
        page = browser.new_page(**options)
        opened.append(page)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        # That a request was refused is what some tests are about.
        page.on(
            "console",
            lambda said: (
                wrong.append(said.text)
                if said.type == "error" and "status of 400" not in said.text
                else None
            ),
        )
        page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
        origin = "/".join(url.split("/")[:3])
        page.on(
            "request",
            lambda request: None if request.url.startswith(origin) else wrong.append(request.url),
        )
        page.goto(url)
        return page

    yield open_at
    for page in opened:
        page.close()
    assert wrong == []


@pytest.fixture
def page(open_page, site):
    return open_page(site)


def prompt_of(page):
    return page.get_by_role("textbox", name="Prompt").or_(page.get_by_role("textbox", name="Text"))


def tokens(page):
    return page.locator("#text .token:not(.pointer)")


def rows(page):
    return page.locator("#step li .candidate")


def write(page, prompt, max_tokens):
    """Types a prompt, and waits for what the model makes of it."""
    prompt_of(page).fill(prompt)
    page.get_by_label("up to").fill(str(max_tokens))
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#note")).to_contain_text(f"{max_tokens} tokens")


def test_a_prompts_tokens_appear_with_ids_and_bytes_as_it_is_typed(page):
    prompt_of(page).fill("")
    prompt_of(page).press_sequentially(PROMPT)
    chips = page.get_by_role("list", name="Tokens of the prompt").get_by_role("listitem")
    expect(chips).to_have_count(5)
    assert [chip.split("\n") for chip in chips.all_inner_texts()] == [
        ["I", "40", "49"],
        ["␣love", "1842", "20 6c 6f 76 65"],
        ["␣Gener", "2980", "20 47 65 6e 65 72"],
        ["ative", "876", "61 74 69 76 65"],
        ["␣AI", "9552", "20 41 49"],
    ]
    expect(page.get_by_role("heading", name="Next token")).to_be_visible()
    expect(rows(page)).to_have_count(12)


def test_the_tokens_of_a_prompt_move_no_button_from_under_a_pointer(page):
    button = page.get_by_role("button", name="Generate")
    prompt_of(page).fill("")

    def below_the_prompt():
        box = prompt_of(page).bounding_box()
        return button.bounding_box()["y"] - box["y"] - box["height"]

    before = below_the_prompt()
    chips = page.get_by_role("list", name="Tokens of the prompt").get_by_role("listitem")
    for prompt, count in ((PROMPT, 5), (f"{PROMPT}. " * 8, 49)):  # a line of tokens, and more
        prompt_of(page).fill(prompt)
        expect(chips).to_have_count(count)
        assert below_the_prompt() == pytest.approx(before, abs=0.5)


def test_what_is_generated_is_what_the_server_generates_and_each_step_can_be_seen(page, target):
    write(page, PROMPT, 12)
    expect(tokens(page)).to_have_count(12)
    with Client(target) as client:
        steps = list(client.generate(PROMPT, seed=1, max_tokens=12, top_logprobs=12))
    step = steps[5]
    page.locator("#token-5").click()
    expect(page.get_by_role("heading", name="Token 6")).to_be_visible()
    expect(page.locator(".step-id")).to_have_text(f"id {step.id}")
    expect(page.locator(".figures")).to_contain_text(f"{step.logprob:.4f}")
    expect(page.locator(".figures")).to_contain_text(f"{step.entropy:.2f}")
    listed = [int(row.get_attribute("data-candidate")) for row in rows(page).all()]
    assert listed[:12] == [candidate.id for candidate in step.top_logprobs]
    assert step.id in listed
    expect(page.locator("#chart-svg")).to_have_attribute("aria-label", re.compile("of 12 tokens"))


def test_the_controls_show_at_once_what_they_make_of_the_step_that_is_looked_at(page):
    write(page, PROMPT, 6)
    page.locator("#token-2").click()
    page.get_by_label("Top k", exact=True).fill("3")
    expect(page.locator("#step li .candidate:not(.cut)")).to_have_count(3)
    page.get_by_label("Temperature", exact=True).fill("0")
    expect(page.locator("#step li .candidate:not(.cut)")).to_have_count(1)
    expect(page.locator("#step li .candidate:not(.cut) .after")).to_have_text("100.0%")
    page.get_by_role("button", name="Reset").click()
    expect(page.locator("#step li .candidate.cut")).to_have_count(0)


def test_another_candidate_begins_a_branch_and_the_first_stays(page):
    write(page, PROMPT, 10)
    first = page.locator("#text").inner_text()
    page.locator("#token-4").click()
    other = page.locator("#step li .candidate:not([aria-current])").first
    name = other.locator(".word").inner_text()
    other.click()
    expect(tokens(page)).to_have_count(15)  # 4 of the first, the one taken, 10 more
    expect(page.locator("#token-4")).to_have_class("token taken")
    assert name.strip("␣") in page.locator("#token-4").inner_text()
    lines = page.get_by_role("treeitem")
    expect(lines).to_have_count(4)  # the prompt, what they share, and two branches
    assert sum(line.get_attribute("aria-selected") == "true" for line in lines.all()) == 1
    page.locator("[role=treeitem]:not(.on-path, .root) > .branch").click()
    expect(page.locator("#text")).to_have_text(first, use_inner_text=True)


def test_candidates_of_the_open_end_are_appended_one_by_one(page):
    prompt_of(page).fill(PROMPT)
    expect(page.locator("#text .prompt-text")).to_have_text(PROMPT)
    for count in (1, 2, 3):
        expect(page.locator("#step").get_by_text("likeliest first")).to_be_visible()
        rows(page).first.click()
        expect(tokens(page)).to_have_count(count)
        expect(page.locator(".pointer")).to_have_attribute("aria-selected", "true")


def test_a_token_that_is_drawn_anew_begins_a_branch(page):
    write(page, PROMPT, 8)
    page.locator("#token-3").click()
    page.get_by_role("button", name="Draw this token anew").click()
    expect(page.locator("#note")).to_contain_text("8 tokens")
    expect(tokens(page)).to_have_count(11)
    expect(page.get_by_label("Seed")).not_to_have_value("1")


def test_a_text_is_scored_token_by_token(page, target):
    text = "Größe matters, <b>🦜</b> said."
    page.get_by_role("tab", name="Score").click()
    prompt_of(page).fill(text)
    page.get_by_role("button", name="Score").click()
    expect(page.locator("#totals")).to_contain_text("Perplexity")
    with Client(target) as client, client.score(text) as scoring:
        (total,) = scoring.read_totals()
        expect(tokens(page)).to_have_count(len(scoring.tokens))
    shown = dict(zip(*[iter(page.locator("#totals").inner_text().splitlines())] * 2, strict=True))
    assert float(shown["Perplexity"]) == pytest.approx(total.perplexity, rel=1e-3)
    assert float(shown["Log probability"]) == pytest.approx(total.logprob, abs=0.006)
    page.locator("#token-3").click()
    expect(page.locator(".figures")).to_contain_text(f"{scoring.tokens[3].logprob:.4f}")
    shades = {
        token.evaluate("e => e.style.getPropertyValue('--heat')") for token in tokens(page).all()
    }
    assert len(shades) > 1


def test_a_shared_address_brings_back_prompt_parameters_and_branches(page, open_page, site):
    page.get_by_label("Temperature", exact=True).fill("0.8")
    page.get_by_label("Seed").fill("77")
    write(page, PROMPT, 8)
    page.locator("#token-4").click()
    page.locator("#step li .candidate:not([aria-current])").first.click()
    expect(tokens(page)).to_have_count(13)
    expect(page.locator("#note")).to_contain_text("8 tokens")
    page.locator("#token-2").click()
    page.get_by_role("button", name="Share").click()
    expect(page.locator("#note")).to_contain_text("link", ignore_case=True)
    address = page.url
    assert address.startswith(f"{site}#1.")
    other = open_page(address)
    expect(tokens(other)).to_have_count(13)
    assert other.locator("#text").inner_text() == page.locator("#text").inner_text()
    expect(prompt_of(other)).to_have_value(PROMPT)
    expect(other.get_by_label("Seed")).to_have_value("77")
    expect(other.get_by_label("Temperature", exact=True)).to_have_value("0.8")
    expect(other.get_by_role("treeitem")).to_have_count(4)
    expect(other.locator("#token-2")).to_have_attribute("aria-selected", "true")
    expect(other.locator(".step-id")).to_have_text(page.locator(".step-id").inner_text())


@pytest.mark.parametrize(
    "fragment", ["1.AAAA", "2.x", "1.", "1.q1YqKMrPSi0uUbJSAtNKOkrFqcVpIFYtAA"]
)
def test_a_damaged_address_is_said_to_be_one(open_page, site, fragment):
    page = open_page(f"{site}#{fragment}")
    expect(page.get_by_role("alert")).to_contain_text("address")


def test_stop_ends_the_generation_at_the_server(open_page):
    service = FakeService(script=[*generation(" and")[:2], Hold()])
    with serving(service) as target, web_program(target) as url:
        page = open_page(url)
        expect(page.get_by_role("button", name="Generate")).to_be_visible()
        service.given_up.clear()
        page.get_by_role("button", name="Generate").click()
        expect(tokens(page)).to_have_count(1)
        page.get_by_role("button", name="Stop").click()
        expect(page.locator("#note")).to_have_text("Stopped after 1 tokens")
        assert service.given_up.wait(10)
        page.close()


def test_it_can_be_used_with_the_keyboard_alone(page):
    prompt_of(page).fill(PROMPT)
    page.get_by_label("up to").fill("6")
    prompt_of(page).focus()
    page.keyboard.press("Control+Enter")
    expect(page.locator("#note")).to_contain_text("6 tokens")
    page.locator("#text").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    text = page.get_by_role("listbox")
    expect(text).to_have_attribute("aria-activedescendant", "token-1")
    expect(page.get_by_role("heading", name="Token 2")).to_be_visible()
    # On to the first candidate that is not the chosen one: it begins a branch.
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('candidate')"):
            break
    page.keyboard.press("Enter")
    expect(tokens(page)).to_have_count(8)
    page.locator("[role=treeitem][tabindex='0']").focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Delete")
    expect(page.get_by_role("treeitem")).to_have_count(2)


def test_markup_in_a_text_stays_text(page):
    markup = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    write(page, markup, 5)
    rows(page).first.click()
    page.get_by_role("tab", name="Score").click()
    prompt_of(page).fill(markup)
    page.get_by_role("button", name="Score").click()
    expect(page.locator("#totals")).to_contain_text("Perplexity")
    assert page.locator("#text").inner_text() == markup
    assert page.locator("main :is(script, img)").count() == 0


def test_a_refused_request_is_shown_with_its_reason(page):
    prompt_of(page).fill("word " * 200)
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_role("alert")).to_contain_text("tokens, the range is 1 to 128")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_cut_off_and_text_stands_out_from_what_is_behind_it(open_page, site, scheme):
    page = open_page(site, color_scheme=scheme)
    write(page, PROMPT, 10)
    page.locator("#token-3").click()
    for width in (360, 390, 820, 1440, 2200):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    for selector in (".prompt-text", ".hint", ".raw", ".chip-hex", ".primary", ".token", "h2"):
        contrasts = page.locator(selector).evaluate_all(CONTRASTS)
        assert min(contrasts, default=21) >= 4.5, selector


def test_the_theme_can_be_chosen_and_is_kept(page):
    expect(page.locator("html")).to_have_attribute("data-theme", "system")
    for name in ("light", "dark"):
        page.get_by_role("button", name="Theme").click()
        expect(page.locator("html")).to_have_attribute("data-theme", name)
        assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == name
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_the_state_of_the_server_stands_in_the_bar(page, target):
    with Client(target) as client:
        model = client.get_model()
    expect(page.locator("#server-line")).to_contain_text(f"{model.name} · fp32 · ")
    page.locator("#server summary").click()
    facts = page.locator("#server-facts")
    expect(facts).to_contain_text(model.artifact_sha256[:16])
    worst = max(c.max_abs_logprob_difference for c in model.certificate.comparisons)
    shown = f"{worst:.1e}".replace("e-0", "e-")
    expect(facts).to_contain_text(shown if not math.isclose(worst, 0) else "0")


# The contrast of each element's text with what is painted behind it, as WCAG counts it.
CONTRASTS = """
elements => elements.filter((element) => element.checkVisibility()).map((element) => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const behind = [];
  for (let e = element; e; e = e.parentElement) behind.unshift(getComputedStyle(e).backgroundColor);
  const paint = (colors) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const color of colors) { canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1); }
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const text = [...behind, getComputedStyle(element).color];
  const [light, dark] = [paint(behind), paint(text)].sort((a, b) => b - a);
  return (light + 0.05) / (dark + 0.05);
})
"""
