"""Sessions whose branches keep to a form, against a real server, from both clients."""

import pytest

from nextok import AsyncClient, Client, InvalidArgument

PROMPT = "My favourite colour is "
COLOURS = ["red", "green", "grey"]


def test_every_branch_of_a_session_keeps_to_its_form(target):
    with Client(target) as client:
        whole = client.generate(PROMPT, choices=COLOURS, seed=3)
        steps = list(whole)
        with client.interact(PROMPT, choices=COLOURS, seed=3) as session:
            branch = session.branch
            assert 0 < branch.distribution.allowed_mass < 1
            assert [step.id for step in branch.sample(len(steps))] == [step.id for step in steps]
            assert branch.text in COLOURS
            other = branch.fork()
            other.rewind(len(steps))
            other.force("gre")
            # Of what begins like this two colours are left, so that two tokens may come at most.
            kept = [each for each in other.distribution.top_logprobs if each.kept]
            assert {each.token for each in kept} <= {"e", "en", "y"}
            with pytest.raises(InvalidArgument, match=r"constraint\.choices"):
                other.force("x")


async def test_both_clients_give_a_session_its_form(target):
    with Client(target) as client, client.interact(PROMPT, regex="[a-f]{9}", seed=1) as session:
        session.branch.sample(3)
        text = session.branch.text
    assert set(text) <= set("abcdef")
    async with (
        AsyncClient(target) as client,
        client.interact(PROMPT, regex="[a-f]{9}", seed=1) as session,
    ):
        await session.branch.sample(3)
        assert session.branch.text == text


def test_two_forms_for_one_session_are_refused_before_it_begins(target):
    with Client(target) as client, pytest.raises(ValueError, match="regex, choices: only one"):
        client.interact(PROMPT, regex="a", choices=["a"])
