"""Trains the demo checkpoint: a small GPT-2 with the real GPT-2 vocabulary.

Knows: the corpus beside it, the optimizer, the checkpoint folder that it writes.
Does not know: ONNX, serving. Needs the `export` extra and nothing else.

Two stages in one run: one pass over `train`, then one over `stories` while the
learning rate falls to zero. Repeatable: seeds are fixed, and with the same number of
threads on the same processor two runs give the same weights.

Most of the time goes into the output projection, so its loss is computed in blocks of
rows with both gradients made in the forward pass (`BlockedCrossEntropy`), over the
tokens that the corpus uses. Those that it never uses share one row: a class that is
counted once for each of them, so the loss is that of the whole vocabulary with these
rows tied, and no work is spent on them.

Usage: python export/training/train.py OUT [--threads 2] [--limit-steps N]
"""

from __future__ import annotations

import argparse
import json
import lzma
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
TOKENIZER = HERE.parent / "nextok_export" / "demo"
SEPARATOR = "<|endoftext|>"
VOCABULARY = 50257


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, written into the checkpoint folder.

    Learning rates are the peak ones; `main_floor` is the fraction of the peak at which
    the pass over `train` ends and the pass over `stories` begins.
    """

    width: int = 160
    layers: int = 6
    heads: int = 5
    context: int = 512
    batch: int = 8
    seed: int = 20
    warmup_steps: int = 100
    main_floor: float = 0.25
    adamw_lr: float = 4e-3
    muon_lr: float = 4e-3
    weight_decay: float = 0.01
    clip_norm: float = 1.0


class BlockedCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of `hidden @ weight.T` without ever holding all logits.

    hidden (N, D), weight (V, D), targets (N,), log_count (V,): the log of how many
    tokens stand behind each row. Both gradients are made here, block by block.
    """

    BLOCK = 128

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor,
        log_count: torch.Tensor,
    ) -> torch.Tensor:
        """The mean loss; keeps both gradients for `backward`."""
        n = hidden.shape[0]
        hidden_grad = torch.empty(hidden.shape, dtype=torch.bfloat16)
        weight_grad = torch.zeros(weight.shape, dtype=torch.float32)
        h, w = hidden.detach().bfloat16(), weight.detach().bfloat16()
        bias = log_count.bfloat16()
        total = torch.zeros(())
        for start in range(0, n, BlockedCrossEntropy.BLOCK):
            rows = slice(start, start + BlockedCrossEntropy.BLOCK)
            target = targets[rows, None]
            grad = torch.log_softmax(torch.addmm(bias, h[rows], w.T), dim=-1)  # (B, V)
            total -= grad.gather(1, target).float().sum()
            grad.exp_().scatter_add_(1, target, torch.full_like(target, -1, dtype=grad.dtype))
            torch.mm(grad, w, out=hidden_grad[rows])
            weight_grad += grad.T @ h[rows]
        ctx.save_for_backward(hidden_grad.float() / n, weight_grad / n)
        return total / n

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The gradients made in `forward`, scaled."""
        hidden_grad, weight_grad = ctx.saved_tensors
        return hidden_grad * grad_outputs[0], weight_grad * grad_outputs[0], None, None


def read_tokens(name: str, tokenizer: Tokenizer) -> np.ndarray:
    """Token ids of one corpus file, each document preceded by the separator."""
    with lzma.open(CORPUS / f"{name}.txt.xz", "rt", encoding="utf-8") as file:
        text = file.read()
    separator = tokenizer.token_to_id(SEPARATOR)
    documents = [d.strip("\n") for d in text.split(SEPARATOR) if d.strip()]
    ids: list[int] = []
    for encoding in tokenizer.encode_batch(documents):
        ids.append(separator)
        ids.extend(encoding.ids)
    return np.array(ids, dtype=np.int64)


def compact_vocabulary(train: np.ndarray) -> tuple[np.ndarray, torch.Tensor]:
    """Gives each token that `train` uses a row of its own, and all others the last one.

    Returns (row of each token id (50257,), log of how many tokens share each row).
    """
    used = np.unique(train)
    row_of = np.full(VOCABULARY, len(used), dtype=np.int64)
    row_of[used] = np.arange(len(used))
    log_count = torch.zeros(len(used) + 1)
    log_count[-1] = math.log(VOCABULARY - len(used))
    return row_of, log_count


def batches(rows: np.ndarray, recipe: Recipe, rng: np.random.Generator) -> Iterator[torch.Tensor]:
    """One pass over `rows` in shuffled windows: (batch, context + 1) each."""
    length = recipe.context
    order = rng.permutation((len(rows) - 1) // length)
    for start in range(0, len(order) - recipe.batch + 1, recipe.batch):
        windows = order[start : start + recipe.batch]
        yield torch.from_numpy(np.stack([rows[w * length : (w + 1) * length + 1] for w in windows]))


def learning_rate(step: int, main_steps: int, steps: int, recipe: Recipe) -> float:
    """Factor of the peak rate: warm-up, cosine to `main_floor`, then straight to zero."""
    if step < recipe.warmup_steps:
        return (step + 1) / recipe.warmup_steps
    if step < main_steps:
        cosine = 0.5 * (1 + math.cos(math.pi * step / main_steps))
        return recipe.main_floor + (1 - recipe.main_floor) * cosine
    return recipe.main_floor * (steps - step) / (steps - main_steps)


def make_model(recipe: Recipe, vocabulary: int) -> GPT2LMHeadModel:
    """GPT-2 in its own architecture; `gelu_pytorch_tanh` is `gelu_new`, fused."""
    config = GPT2Config(
        vocab_size=vocabulary,
        n_positions=recipe.context,
        n_embd=recipe.width,
        n_layer=recipe.layers,
        n_head=recipe.heads,
        activation_function="gelu_pytorch_tanh",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=VOCABULARY - 1,
        eos_token_id=VOCABULARY - 1,
        attn_implementation="sdpa",
    )
    return GPT2LMHeadModel(config)


def make_optimizers(model: GPT2LMHeadModel, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for everything else."""
    matrices = [p for p in model.transformer.h.parameters() if p.ndim == 2]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(
            matrices,
            lr=recipe.muon_lr,
            weight_decay=recipe.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(others, lr=recipe.adamw_lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def train(
    recipe: Recipe, rows: dict[str, np.ndarray], log_count: torch.Tensor, limit: int
) -> GPT2LMHeadModel:
    """Runs both stages and returns the model over the compact vocabulary."""
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    model = make_model(recipe, len(log_count))
    optimizers = make_optimizers(model, recipe)
    tokens_a_step = recipe.batch * recipe.context
    main_steps = (len(rows["train"]) - 1) // tokens_a_step
    steps = main_steps + (len(rows["stories"]) - 1) // tokens_a_step
    parameters = list(model.parameters())
    peaks = [recipe.muon_lr, recipe.adamw_lr]
    started, running = time.monotonic(), 0.0
    stages = (b for name in ("train", "stories") for b in batches(rows[name], recipe, rng))
    for step, batch in enumerate(stages):
        if step == limit:
            break
        factor = learning_rate(step, main_steps, steps, recipe)
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * factor
        with torch.autocast("cpu", torch.bfloat16):
            hidden = model.transformer(batch[:, :-1], use_cache=False).last_hidden_state
        loss = BlockedCrossEntropy.apply(
            hidden.reshape(-1, recipe.width),
            model.transformer.wte.weight,
            batch[:, 1:].reshape(-1),
            log_count,
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, recipe.clip_norm)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        running = loss.item() if step == 0 else 0.98 * running + 0.02 * loss.item()
        if step % 20 == 0:
            rate = (step + 1) * tokens_a_step / (time.monotonic() - started)
            print(f"step {step}/{steps}  loss {running:.3f}  {rate:.0f} tokens/s", flush=True)
    return model


def expand(model: GPT2LMHeadModel, recipe: Recipe, row_of: np.ndarray) -> GPT2LMHeadModel:
    """The same model over the whole vocabulary, rounded to the fp16 that is shipped."""
    full = make_model(recipe, VOCABULARY)
    state = model.state_dict()
    embedding = state["transformer.wte.weight"][torch.from_numpy(row_of)]
    state["transformer.wte.weight"] = state["lm_head.weight"] = embedding
    full.load_state_dict(state)
    full.config.activation_function = "gelu_new"
    return full.half().float().eval()


@torch.no_grad()
def validation_loss(model: GPT2LMHeadModel, ids: np.ndarray, context: int) -> float:
    """Mean nats a token over the held-out text, in windows of the whole context."""
    total, count = 0.0, 0
    for start in range(0, len(ids) - 1, context):
        window = torch.from_numpy(ids[start : start + context + 1])[None]
        logits = model(window[:, :-1]).logits[0]
        total += torch.nn.functional.cross_entropy(logits, window[0, 1:], reduction="sum").item()
        count += window.shape[1] - 1
    return total / count


def main() -> None:
    """Trains, measures on the held-out text and writes the checkpoint folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "out", type=Path, help="folder for config.json, model.safetensors and training.json"
    )
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2)")
    parser.add_argument("--limit-steps", type=int, default=-1, help="stop early, to try it out")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    recipe = Recipe()
    tokenizer = GPT2TokenizerFast.from_pretrained(TOKENIZER).backend_tokenizer
    ids = {name: read_tokens(name, tokenizer) for name in ("train", "stories", "valid")}
    row_of, log_count = compact_vocabulary(ids["train"])
    stages = {name: row_of[ids[name]] for name in ("train", "stories")}
    model = train(recipe, stages, log_count, arguments.limit_steps)
    full = expand(model, recipe, row_of)
    loss = validation_loss(full, ids["valid"], recipe.context)
    arguments.out.mkdir(parents=True, exist_ok=True)
    full.half().save_pretrained(arguments.out)
    report = {
        "recipe": asdict(recipe),
        "validation_loss": loss,
        "validation_tokens": len(ids["valid"]),
    }
    (arguments.out / "training.json").write_text(json.dumps(report, indent=2) + "\n")
    print(f"validation loss {loss:.4f} nats a token (perplexity {math.exp(loss):.1f})")


if __name__ == "__main__":
    main()
