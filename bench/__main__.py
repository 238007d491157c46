"""Measures nextok and its peers in alternation; `make bench` and `make bench-quick` call it.

Makes (or takes) a GPT-2 checkpoint, exports it for every contender, loads each in a process of its
own, and lets them take turns, round by round. README.md beside this file says what the figures
mean.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import prepare, processes, results, table
from bench.contenders import CONTENDERS, Contender
from bench.install import failures_by_contender
from bench.prepare import Field
from bench.progress import Progress
from bench.rounds import Rounds
from bench.scenarios import Scenario, quick, select

BUSY = 0.02  # processors that a process may use while it has nothing to do


def parse() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="at most; default 5")
    parser.add_argument("--minutes", type=float, help="begin nothing that would end later")
    parser.add_argument("--since", type=float, default=time.time(), help="when minutes began")
    parser.add_argument("--threads", type=int, default=2, help="of every contender; default 2")
    parser.add_argument("--checkpoint", type=Path, help="default: a random GPT-2 124M")
    parser.add_argument("--only", nargs="+", default=[], metavar="CONTENDER")
    parser.add_argument("--scenarios", nargs="+", default=[], metavar="SCENARIO")
    parser.add_argument("--quick", action="store_true", help="one stream against optimum, 32 to 1")
    parser.add_argument("--work", type=Path, help="keep models here, and use those that are there")
    parser.add_argument("--json", type=Path, help="file to write the results to")
    options = parser.parse_args()
    if options.rounds < 1 or options.threads < 1:
        parser.error("--rounds and --threads have to be at least 1")
    try:
        options.chosen = quick() if options.quick else select(options.scenarios, options.only)
    except ValueError as error:
        parser.error(str(error))
    if not options.chosen:
        parser.error("none of these contenders takes part in these scenarios")
    return options


@contextlib.contextmanager
def folder(given: Path | None) -> Iterator[Path]:
    """Where models go: the folder given, or one that is gone afterwards."""
    if given is not None:
        yield given.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="nextok-bench-") as made:
        yield Path(made)


def main() -> None:
    """Prepares, measures, prints and writes."""
    options = parse()
    progress = Progress(options.since, options.minutes)
    who = {entry.contender for scenario in options.chosen for entry in scenario.entries}
    taking_part = [contender for contender in CONTENDERS if contender.name in who]
    with folder(options.work) as work, contextlib.ExitStack() as stack:
        found = measure(options, taking_part, work, progress, stack)
    print(table.markdown(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        progress.say(f"wrote {options.json}")


def measure(
    options: argparse.Namespace,
    taking_part: list[Contender],
    work: Path,
    progress: Progress,
    stack: contextlib.ExitStack,
) -> dict[str, Any]:
    """All that is measured, as it goes into the file of results."""
    source = options.checkpoint or prepare.checkpoint(work)
    vocabulary = json.loads((source / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    here = prepare.models(taking_part, source, work, failures_by_contender(), progress)
    stack.callback(here.close)
    prepare.start(taking_part, work, options.threads, here, progress)
    prepared = progress.gone
    scenarios: tuple[Scenario, ...] = options.chosen
    rounds = Rounds(scenarios, here.workers, here.failures, vocabulary, progress)
    rounds.run(options.rounds)
    idle = idle_shares(here, progress)
    memory = {name: processes.resident_bytes(w.pid) for name, w in here.workers.items()}
    found = results.scenarios(scenarios, rounds)
    return {
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": {"until_measuring": prepared, "in_all": progress.gone},
        "machine": results.machine(),
        "versions": results.versions(),
        "settings": {
            "threads": options.threads,
            "rounds": options.rounds,
            "checkpoint": str(options.checkpoint or "random GPT-2 124M, seed 0"),
        }
        | openvino_defaults(here),
        "contenders": results.contenders(taking_part, here, memory, idle),
        "scenarios": found,
        **results.derived(found, here),
    }


def idle_shares(here: Field, progress: Progress) -> dict[str, float]:
    """Processors that each contender uses while it has nothing to do."""
    shares = processes.cpu_shares({name: w.pid for name, w in here.workers.items()}, 2.0)
    for name, share in shares.items():
        if share > BUSY:
            progress.say(f"{name} keeps {share:.0%} of a processor busy while it is idle")
    return shares


def openvino_defaults(here: Field) -> dict[str, Any]:
    """What OpenVINO takes where nothing is set, if it took part."""
    if not any(name.startswith("openvino-") for name in here.workers):
        return {}
    from bench.contenders.openvino_genai import defaults

    return {"openvino_defaults": defaults()}


if __name__ == "__main__":
    main()
