"""A contender that does what its settings say."""

from __future__ import annotations

import os

from bench.job import Outcome


def weights(folder, settings):
    return folder / "weights"


def prepare(checkpoint, folder, settings):
    if settings.get("prepare") == "fail":
        raise RuntimeError("cannot be exported")
    weights(folder, settings).write_bytes(b"1234")


class Runner:
    offers = frozenset()

    def __init__(self, folder, settings, threads):  # noqa: ARG002
        if settings.get("start") == "fail":
            raise RuntimeError("cannot be loaded")
        self._settings = settings

    def run(self, job):
        match self._settings.get("run"):
            case "fail":
                raise RuntimeError("cannot do that")
            case "die":
                print("last words", flush=True)
                os._exit(3)
            case "too few":
                return Outcome.in_step([0.1], [[1] for _ in job.prompts])
        times = [0.1 * (i + 1) for i in range(job.output_tokens)]
        return Outcome.in_step(times, [[1] * job.output_tokens for _ in job.prompts])

    def close(self):
        pass
