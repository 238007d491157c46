"""What `import nextok` gives and brings along, and what its two clients have in common."""

import inspect
import subprocess
import sys

import pytest

import nextok
from nextok import (
    AsyncBranch,
    AsyncClient,
    AsyncContrast,
    AsyncExploration,
    AsyncGeneration,
    AsyncScoring,
    AsyncSession,
    Branch,
    Client,
    Contrast,
    Exploration,
    Generation,
    Scoring,
    Session,
)
from nextok.channel import channel_options


def test_every_public_name_is_there_and_sorted():
    # As ruff sorts it: names in capitals come first.
    assert nextok.__all__ == sorted(nextok.__all__, key=lambda name: (not name.isupper(), name))
    for name in nextok.__all__:
        assert getattr(nextok, name).__module__.startswith("nextok.")


def loaded_by(imports):
    """Returns the modules outside the standard library that an import brings."""
    code = f"import sys, {imports}\nprint(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    modules = set(result.stdout.split())
    return {m for m in modules if m.partition(".")[0] not in sys.stdlib_module_names}


def test_importing_the_client_brings_nothing_but_grpc_and_protobuf():
    brought = loaded_by("nextok") - loaded_by("grpc, google.protobuf")
    allowed = ("nextok", "grpc.", "google.protobuf.", "google._upb")
    assert {name for name in brought if not name.startswith(allowed)} == set()


def test_keepalive_stays_above_what_servers_count_as_too_many_pings():
    settings = dict(channel_options())
    assert settings["grpc.keepalive_time_ms"] > 5 * 60 * 1000
    assert settings["grpc.keepalive_permit_without_calls"] == 0


def test_the_callers_channel_arguments_win():
    settings = channel_options([("grpc.keepalive_time_ms", 1), ("x", "y")])
    assert ("grpc.keepalive_time_ms", 1) in settings
    assert ("x", "y") in settings
    assert len(dict(settings)) == len(settings)


def _public(kind):
    return {name for name in vars(kind) if not name.startswith("_")} | {
        name for base in kind.__mro__[1:] for name in vars(base) if not name.startswith("_")
    }


@pytest.mark.parametrize(
    "pair",
    [
        (Client, AsyncClient),
        (Generation, AsyncGeneration),
        (Scoring, AsyncScoring),
        (Exploration, AsyncExploration),
        (Session, AsyncSession),
        (Branch, AsyncBranch),
        (Contrast, AsyncContrast),
    ],
)
def test_the_twins_have_the_same_names_and_signatures(pair):
    sync, asynchronous = pair
    assert _public(sync) == _public(asynchronous)
    # Only clients are made by their users.
    for name in _public(sync) | ({"__init__"} if sync is Client else set()):
        ours, theirs = getattr(sync, name), getattr(asynchronous, name)
        if isinstance(ours, property):
            assert isinstance(theirs, property)
        else:
            assert _parameters(ours) == _parameters(theirs), name


def _parameters(method):
    """A method's parameters; where they are twins themselves, they count as the same."""
    parameters = inspect.signature(method).parameters.values()
    return [(p.name, p.kind, p.default, str(p.annotation).replace("Async", "")) for p in parameters]


def test_every_option_is_keyword_only_with_a_visible_default():
    for name in (
        "generate",
        "next_token",
        "score",
        "explore",
        "interact",
        "contrast",
        "tokenize",
        "get_model",
    ):
        for parameter in list(inspect.signature(getattr(Client, name)).parameters.values())[2:]:
            assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
            assert parameter.default is not inspect.Parameter.empty
