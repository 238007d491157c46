"""onnxruntime-genai's generation loop over optimum's graph, a static batch.

Its model builder knows no GPT-2, and its runtime no longer takes the model type `gpt2`; any
decoder with an attention mask, positions and separate keys and values runs as type `llama`.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime_genai as genai

from bench.contenders import optimum_ort
from bench.job import Job, Outcome
from bench.worker import SETTINGS

prepare, weights = optimum_ort.prepare, optimum_ort.weights


class Runner:
    """The graph in float32."""

    offers: frozenset[str] = frozenset()

    def __init__(self, folder: Path, settings: SETTINGS, threads: int) -> None:
        del settings
        # In a folder of its own: the graph's folder belongs to optimum.
        self._folder = Path(tempfile.mkdtemp())
        for file in folder.iterdir():
            (self._folder / file.name).symlink_to(file.resolve())
        config = generation_config(json.loads((folder / "config.json").read_text()), threads)
        (self._folder / "genai_config.json").write_text(json.dumps(config))
        self._model = genai.Model(str(self._folder))

    def run(self, job: Job) -> Outcome:
        """All prompts as one batch; the least length keeps it from ending early."""
        length = job.prompt_tokens + job.output_tokens
        params = genai.GeneratorParams(self._model)
        params.set_search_options(
            min_length=length, max_length=length, batch_size=len(job.prompts), do_sample=False
        )
        prompts = np.array(job.prompts, np.int32)
        times = []
        start = time.perf_counter()
        generator = genai.Generator(self._model, params)
        generator.append_tokens(prompts)
        while not generator.is_done():
            generator.generate_next_token()
            times.append(time.perf_counter() - start)
        sequences = [generator.get_sequence(i) for i in range(len(prompts))]
        return Outcome.in_step(times, [s[job.prompt_tokens :].tolist() for s in sequences])

    def close(self) -> None:
        """Removes the folder of links."""
        shutil.rmtree(self._folder)


def generation_config(model: dict[str, int], threads: int) -> dict[str, object]:
    """genai_config.json for the graph that optimum writes."""
    names = {"key": "past_key_values.%d.key", "value": "past_key_values.%d.value"}
    decoder = {
        "session_options": {"intra_op_num_threads": threads, "provider_options": []},
        "filename": "model.onnx",
        "head_size": model["n_embd"] // model["n_head"],
        "hidden_size": model["n_embd"],
        "num_attention_heads": model["n_head"],
        "num_key_value_heads": model["n_head"],
        "num_hidden_layers": model["n_layer"],
        "inputs": {name: name for name in ("input_ids", "attention_mask", "position_ids")}
        | {f"past_{kind}_names": name for kind, name in names.items()},
        "outputs": {"logits": "logits"}
        | {f"present_{kind}_names": f"present.%d.{kind}" for kind in names},
    }
    sizes = {"context_length": model["n_positions"], "vocab_size": model["vocab_size"]}
    special = {f"{kind}_token_id": model["eos_token_id"] for kind in ("bos", "eos", "pad")}
    search = {"do_sample": False, "num_beams": 1, "past_present_share_buffer": False}
    return {"model": {"type": "llama", "decoder": decoder} | sizes | special, "search": search}
