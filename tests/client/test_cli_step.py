"""`nextok step`: the explorer on a screen of 80 by 24, before a service that plays by the rules."""

import asyncio
import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from contextlib import asynccontextmanager
from itertools import chain

import grpc
import pytest
from support.fake_interact import PROMPT, FakeInteract
from support.fake_service import Refuse
from typer.testing import CliRunner

import nextok
from nextok import AsyncClient
from nextok.cli.app import app
from nextok.explorer.screen import Explorer


@pytest.fixture
def service():
    return FakeInteract()


class Hand:
    """Presses keys, and reads the screen when what they asked for is done."""

    def __init__(self, explorer, pilot):
        self.explorer, self.pilot = explorer, pilot

    async def press(self, *keys):
        for key in keys:
            await self.pilot.press(key)
            await self.explorer.settled()
        await self.pilot.pause()

    @property
    def screen(self):
        rows = self.explorer.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in row).rstrip() for row in rows)

    @property
    def told(self):
        return [notification.message for notification in self.explorer._notifications]

    @property
    def texts(self):
        return [branch.text for branch in self.explorer.session.branches]

    @property
    def current(self):
        return self.explorer.session.branch


@pytest.fixture
def exploring(target):
    @asynccontextmanager
    async def explore(size=(80, 24), **options):
        options = {"top_logprobs": 10, **options}
        explorer = Explorer(
            lambda: AsyncClient(target), lambda client: client.interact(PROMPT, **options)
        )
        async with explorer.run_test(size=size) as pilot:
            hand = Hand(explorer, pilot)
            await explorer.settled()
            await pilot.pause()
            yield hand

    return explore


SCREEN = """\
 nextok step   demo int8   branch 1   6 of 1024 tokens
╭─ text ───────────────────────────────────────────────────────────────────────╮
│ Once upon a, there was▏                                                      │
│                                                                              │
│                                                                              │
│                                                                              │
│                                                                              │
╰──────────────────────────────────────────────────────────────────────────────╯
╭─ what could come next ───────────────────────────────╮╭─ branches ───────────╮
│      token             model          sampler        ││ 0 , there            │
│    1 '�'              50.05% ███████  50.05% ███████ ││▸└─ 1  was            │
│▸   2 '�'              25.02% ███▌     25.02% ███▌    ││                      │
│    3 '\\n'             12.51% █▊       12.51% █▊      ││                      │
│    4 'Once'            6.26% ▉         6.26% ▉       ││                      │
│    5 ' upon'           3.13% ▍         3.13% ▌       ││                      │
│    6 ' a'              1.56% ▎         1.56% ▎       ││                      │
│    7 ' time'           0.78% ▏         0.78% ▏       ││                      │
│    8 ','               0.39%           0.39%         ││                      │
│    9 ' there'          0.20%           0.20%         ││                      │
│   10 ' was'            0.10%           0.10%         ││                      │
╰──────────────────────────────────────────────────────╯╰──────────────────────╯
 entropy 1.38 nats   as 4.0 equally likely tokens   all others 0.00%
 surprisal 0.69 nats   ' was' drawn, 50.05%, rank 1
⇥ branch ⏎ pick ↑↓ choose t type s sample u undo f fork d drop ? help q quit"""


async def test_the_screen_shows_text_candidates_branches_numbers_and_keys(exploring):
    async with exploring() as hand:
        await hand.press("down", "enter", "s", "f", "s", "down")
        assert hand.screen == SCREEN


async def test_arrows_choose_and_enter_picks(exploring):
    async with exploring() as hand:
        await hand.press("down", "down", "up", "enter")
        assert hand.texts == [","]
        await hand.press("pagedown", "enter")
        # The last of ten: the mark does not leave the list.
        assert hand.texts == [",,"]
        assert hand.current.steps[-1].rank == 10


async def test_s_draws_one_and_shift_s_draws_ten(exploring):
    async with exploring() as hand:
        await hand.press("s")
        assert len(hand.current.steps) == 1
        await hand.press("S")
        assert len(hand.current.steps) == 11
        assert not hand.current.steps[-1].forced


async def test_what_is_undone_and_drawn_again_is_drawn_anew(exploring, service):
    async with exploring() as hand:
        await hand.press("s", "u", "s", "f", "s")
    said = [action.sample.sampling.seed for action in service.actions if action.HasField("sample")]
    # The first draw is the one of the seed that the server tells.
    assert said == [7, 8, 9]


async def test_what_is_typed_is_appended(exploring):
    async with exploring() as hand:
        await hand.press("t")
        assert "⏎ append" in hand.screen
        for key in ("space", *"was", "space", *"a"):
            await hand.press(key)
        assert "│  was a" in hand.screen
        await hand.press("enter")
        assert hand.texts == [" was a"]
        assert all(step.forced for step in hand.current.steps)
        await hand.press("t", "x", "escape", "s")
        assert hand.texts == [" was a time"]


async def test_u_takes_the_last_token_off_and_stops_at_the_prompt(exploring):
    async with exploring() as hand:
        await hand.press("s", "s", "u")
        assert hand.texts == [" time"]
        await hand.press("u", "u", "u", "s")
        assert hand.texts == [" time"]


async def test_branches_are_forked_switched_and_dropped(exploring):
    async with exploring() as hand:
        await hand.press("s", "f", "s", "f", "down", "enter")
        assert hand.current.branch_id == 2
        assert hand.texts == [" time", " time,", " time, was"]
        await hand.press("0", "f", "enter")
        assert "▸└─ 3 ," in hand.screen
        assert " ├─ 1 ," in hand.screen
        assert " │  └─ 2  was" in hand.screen
        await hand.press("tab")
        assert hand.current.branch_id == 0
        await hand.press("tab", "d")
        assert [b.branch_id for b in hand.explorer.session.branches] == [0, 2, 3]
        # What was below the dropped branch is below its parent now, with all its own text.
        assert "├─ 2 , was" in hand.screen.replace("… ", " ")
        await hand.press("d", "tab", "d", "d")
        assert hand.told == ["this is the only branch"]


async def test_the_context_is_not_overrun(exploring, monkeypatch):
    monkeypatch.setattr("support.fake_service.model", _short_model)
    async with exploring() as hand:
        await hand.press("S")
        assert len(hand.current.steps) == 3
        await hand.press("s", "enter")
        assert len(hand.current.steps) == 3
        assert hand.told == ["the context has room for 0 more"] * 2
        await hand.press("u", "s")
        assert hand.explorer.failure is None


def _short_model():
    model = nextok.v1.text_generation_pb2.GetModelResponse(context_length=6)
    model.limits.max_branches = 2
    return model


async def test_no_more_branches_are_made_than_the_server_allows(exploring, monkeypatch):
    monkeypatch.setattr("support.fake_service.model", _short_model)
    async with exploring() as hand:
        await hand.press("f", "f")
        assert len(hand.explorer.session.branches) == 2
        assert hand.told == ["the server allows 2 branches"]
        assert hand.explorer.failure is None


async def test_the_tree_shows_what_a_branch_has_of_its_own(exploring):
    async with exploring() as hand:
        await hand.press("s", "s", "f", "u", "down", "enter")
        # The fork was taken back to before the place where it was made.
        assert "▸└─ 1  there" in hand.screen


async def test_what_the_filters_cut_is_told(exploring, service, monkeypatch):
    from support import fake_interact

    whole = fake_interact.likeliest

    def cut(probs, count):
        candidates = whole(probs, count)
        for candidate in candidates[2:]:
            candidate.kept, candidate.prob = False, 0
        return candidates

    monkeypatch.setattr(fake_interact, "likeliest", cut)
    async with exploring() as hand:
        assert hand.screen.count(" cut") == 8


async def test_colours_tell_nothing_that_is_not_said_without_them(exploring, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    async with exploring() as hand:
        await hand.press("down", "enter", "s", "f", "s", "down")
        assert hand.screen == SCREEN
        for segment in chain(*hand.explorer.screen._compositor.render_strips()):
            for colour in filter(None, (segment.style.color, segment.style.bgcolor)):
                assert len({*colour.get_truecolor()}) == 1


async def test_surprising_tokens_are_shaded(exploring):
    async with exploring() as hand:
        await hand.press("end", "pagedown", "enter")
        assert hand.current.steps[-1].surprisal > 6
        line = hand.explorer.screen._compositor.render_strips()[2]
        *_, shaded = [segment for segment in line if segment.text == " a"]
        assert shaded.style.bgcolor.triplet.red == 255


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (40, 20)])
async def test_every_size_is_filled_and_nothing_breaks(exploring, size):
    async with exploring(size) as hand:
        await hand.press("s", "f", "question_mark")
        assert "The likeliest next" in hand.screen
        await hand.press("x", "s")
        assert "what could come next" in hand.screen
        assert hand.texts[0] == " time"
        await hand.pilot.resize_terminal(size[0] + 10, size[1])
        await hand.press()
        assert "branches" in hand.screen


async def test_what_the_server_refuses_ends_the_explorer_and_is_told(exploring, service):
    service.refuse_at[2] = Refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
    async with exploring() as hand:
        await hand.press("s")
        await hand.pilot.press("s")
        async with asyncio.timeout(10):
            while hand.explorer.failure is None:
                await hand.pilot.pause()
    assert isinstance(hand.explorer.failure, nextok.ResourceExhausted)
    assert [branch.text for branch in hand.explorer.branches] == [" time"]


def on_a_terminal(arguments, keys, target):
    """Runs `nextok step` on a terminal of 80 by 24; returns its exit code, screen and stdout."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-m", "nextok", "step", PROMPT, *arguments]
    env = {**os.environ, "NEXTOK_TARGET": target, "TERM": "xterm-256color"}
    process = subprocess.Popen(
        command, stdin=slave, stderr=slave, stdout=subprocess.PIPE, env=env, start_new_session=True
    )
    os.close(slave)
    screen = b""
    for awaited, key in keys:
        while awaited not in screen.decode(errors="replace"):
            screen += os.read(master, 65536)
        os.write(master, key.encode())
    output, _ = process.communicate(timeout=30)
    os.close(master)
    return process.returncode, output.decode()


def test_it_runs_on_a_terminal_and_writes_the_branches_when_it_is_left(target):
    keys = [("3 of 1024", "s"), ("4 of 1024", "f"), ("branch 1", "s"), ("5 of 1024", "q")]
    code, output = on_a_terminal(["--json"], keys, target)
    assert code == 0
    lines = [json.loads(line) for line in output.splitlines()]
    assert [(line["branch_id"], line["text"]) for line in lines] == [(0, " time"), (1, " time,")]
    assert lines[1]["token_ids"] == [3, 4]
    assert lines[1]["steps"][0]["rank"] == 1


def test_without_a_terminal_it_says_so(target):
    result = CliRunner().invoke(app, ["step", PROMPT], env={"NEXTOK_TARGET": target})
    assert result.exit_code == 1
    assert "needs a terminal" in result.stderr
