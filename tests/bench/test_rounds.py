from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest

from bench import worker
from bench.contenders import BY_NAME, CONTENDERS
from bench.job import Job
from bench.progress import Progress
from bench.rounds import Rounds
from bench.scenarios import SCENARIOS, Entry, Scenario, select
from bench.worker import Failed, Worker

FAKE = "support.fake_contender"
JOB = Job([[1, 2], [3, 4]], output_tokens=4)


@pytest.fixture
def started(tmp_path):
    with contextlib.ExitStack() as stack:

        def start(**settings):
            made = Worker(FAKE, tmp_path, settings, 1, tmp_path / "log", seconds=60)
            stack.callback(made.close)
            return made

        yield start


def test_a_worker_does_a_job_and_goes_on_after_one_that_fails(started):
    with pytest.raises(Failed, match="RuntimeError: cannot do that"):
        started(run="fail").run(JOB)
    outcome = started().run(JOB)
    assert outcome.tokens == [[1] * 4] * 2


def test_a_worker_that_dies_is_reported_with_its_last_words(started):
    dying = started(run="die")
    with pytest.raises(Failed, match="exit code 3: last words"):
        dying.run(JOB)
    with pytest.raises(Failed):
        dying.run(JOB)


def test_a_worker_that_cannot_start_says_why(started):
    with pytest.raises(Failed, match="cannot be loaded"):
        started(start="fail")


def test_an_export_that_fails_says_why_and_one_that_works_tells_its_size(tmp_path):
    log = tmp_path / "log"
    assert worker.prepare(FAKE, tmp_path, tmp_path / "a", {}, log) == 4
    with pytest.raises(Failed, match="cannot be exported"):
        worker.prepare(FAKE, tmp_path, tmp_path / "b", {"prepare": "fail"}, log)


def test_who_fails_or_lacks_an_ability_is_named_and_does_not_stop_the_rest(started):
    entries = (
        Entry("good"),
        Entry("good", drafts=True),
        Entry("short"),
        Entry("absent"),
    )
    scenario = Scenario("any", "any", entries, output_tokens=4, prompt_tokens=2)
    workers = {"good": started(), "short": started(run="too few")}
    progress = Progress(time.time(), None)
    rounds = Rounds((scenario,), workers, {"absent": "install: no wheel"}, 100, progress)
    rounds.run(2)
    assert [[set(go) for go in each] for each in rounds.found["any"]] == [[{"good"}], [{"good"}]]
    missing = rounds.missing["any"]
    assert missing["absent"] == "install: no wheel"
    assert missing["good +drafts"] == "does not offer drafts"
    assert missing["short"].startswith("asked for 4 tokens a stream, got [1]")


def test_after_the_first_round_nothing_begins_for_which_there_is_no_time(started):
    scenario = Scenario("any", "any", (Entry("good"),), output_tokens=4)
    rounds = Rounds((scenario,), {"good": started()}, {}, 100, Progress(time.time(), 0.0))
    rounds.run(5)
    assert len(rounds.found["any"]) == 1


def test_who_has_more_goes_does_the_work_again_in_turns(started):
    entries = (Entry("once"), Entry("thrice", goes=3), Entry("twice", goes=2))
    scenario = Scenario("any", "any", entries, output_tokens=4)
    workers = {entry.contender: started() for entry in entries}
    rounds = Rounds((scenario,), workers, {}, 100, Progress(time.time(), None))
    rounds.run(1)
    ((first, second, third),) = rounds.found["any"]
    assert list(first) == ["once", "thrice", "twice"]
    assert (list(second), list(third)) == (["thrice", "twice"], ["thrice"])


def test_who_fails_in_one_go_has_no_further_one(started):
    scenario = Scenario("any", "any", (Entry("short", goes=3), Entry("good", goes=2)))
    workers = {"good": started(), "short": started(run="too few")}
    rounds = Rounds((scenario,), workers, {}, 100, Progress(time.time(), None))
    rounds.run(1)
    ((first, second),) = rounds.found["any"]
    assert (list(first), list(second)) == (["good"], ["good"])


def test_reading_alone_answers_like_a_contender(tmp_path):
    log = tmp_path / "log"
    size = worker.prepare("bench.contenders.memory", tmp_path, tmp_path, {}, log)
    assert size == (tmp_path / "weights.bin").stat().st_size
    reader = Worker("bench.contenders.memory", tmp_path, {}, 2, log)
    with contextlib.closing(reader):
        (times, _) = reader.run(JOB).arrivals
    assert times == sorted(times)
    assert times[0] > 0


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_all_entries_get_the_same_prompts_and_every_go_others(scenario):
    first, *others = scenario.entries
    ours = scenario.jobs(first, 1, 0, 1000)
    for other in others:
        theirs = scenario.jobs(other, 1, 0, 1000)
        assert [job.prompts for job in theirs.values()] == [job.prompts for job in ours.values()]
    flat = [prompt for job in ours.values() for prompt in job.prompts]
    assert {len(prompt) for prompt in flat} == {scenario.prompt_tokens}
    for later in ((1, 1), (2, 0)):
        jobs = scenario.jobs(first, *later, 1000).values()
        assert all(prompt not in flat for job in jobs for prompt in job.prompts)


def test_every_entry_is_a_contender_and_every_contender_has_its_file():
    entries = {entry.contender for scenario in SCENARIOS for entry in scenario.entries}
    assert entries == set(BY_NAME)
    folder = Path(worker.__file__).parent / "contenders"
    assert all((folder / f"{contender.engine}.py").is_file() for contender in CONTENDERS)


def test_an_unknown_name_is_refused_with_those_that_are_known():
    with pytest.raises(ValueError, match=r"no contender gpt; .*nextok-int8"):
        select([], ["gpt"])
    with pytest.raises(ValueError, match=r"no scenario streams_3; .*streams_32"):
        select(["streams_3"], [])


def test_a_choice_keeps_only_what_was_asked_for():
    chosen = select(["streams_1", "growth_8"], ["nextok-int8"])
    assert [(s.name, [e.key for e in s.entries]) for s in chosen] == [
        ("streams_1", ["nextok-int8", "nextok-int8 +drafts"]),
        ("growth_8", ["nextok-int8"]),
    ]
