"""`nextok contrast`, run in this process against a service that plays Interact by the rules."""

import json

import pytest
from support.fake_interact import PROMPT, FakeInteract
from typer.testing import CliRunner

from nextok import ContrastStep
from nextok.cli.app import app


@pytest.fixture
def service():
    return FakeInteract()


@pytest.fixture
def nextok(target):
    def run(*arguments):
        env = {"NEXTOK_TARGET": target, "COLUMNS": "100"}
        return CliRunner().invoke(app, ["contrast", PROMPT, *arguments], env=env)

    return run


def test_json_is_a_step_a_line_and_nothing_else(nextok):
    result = nextok("--other", " was there", "--max-tokens", "3", "--json")
    assert result.exit_code == 0, result.output
    steps = [json.loads(line) for line in result.stdout.splitlines()]
    assert [step["token"] for step in steps] == [" time", ",", " there"]
    assert set(steps[0]) == set(ContrastStep.__dataclass_fields__)
    assert len(steps[0]["candidates"]) == 10
    assert result.stderr == ""


def test_an_infinite_divergence_is_null_in_json_and_inf_for_people(nextok):
    arguments = ("--max-tokens", "1", "--other-top-k", "1")
    step = json.loads(nextok(*arguments, "--json").stdout)
    assert step["kl"] is None
    assert step["reverse_kl"] > 0
    assert "KL     inf" in nextok(*arguments).stdout


def test_people_get_a_line_a_step_and_the_means(nextok):
    result = nextok("--other", " was there", "--max-tokens", "2")
    first, second = result.stdout.splitlines()
    assert first.startswith("   0  ' time'")
    assert "JS 0.0000" in second
    assert "█" in first
    assert result.stderr.startswith("2 tokens, mean KL")


def test_with_top_the_candidates_of_both_stand_under_each_line(nextok):
    result = nextok("--other-temperature", "2", "--max-tokens", "1", "--top", "2")
    assert len(result.stdout.splitlines()) == 3


def test_settings_that_are_not_said_of_the_other_are_those_of_the_first(nextok, service):
    result = nextok("--top-k", "3", "--temperature", "0.5", "--other-top-p", "0.5", "--json")
    assert result.exit_code == 0, result.output
    other = [c["other_prob"] for c in json.loads(result.stdout.splitlines()[0])["candidates"]]
    # Top-3 at temperature 0.5 leaves 16/21, 4/21 and 1/21; of those, top-p keeps the first.
    assert other[0] == pytest.approx(1.0)
    assert service.actions[0].start.sampling.temperature == 0.5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [((), "nothing to contrast"), (("--other-top-p", "2"), "top_p: is 2.0, the range is 0 to 1")],
)
def test_wrong_usage_is_said_by_name(nextok, arguments, said):
    result = nextok(*arguments)
    assert result.exit_code == 2
    assert said in result.output
