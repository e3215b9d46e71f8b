"""One training loop, read from top to bottom: lr, batch, loss, step, average, log, save, evaluate.

In: a model, a loss, batches addressed by their number. Out: a folder with `last.pt` and the averaged weights.
Everything a step does follows from (seed, step, rank), so a killed run continues as if nothing had happened.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from xkd_ros.core.errors import ModelError
from xkd_ros.core.files import atomic_path
from xkd_ros.train.average import Average

logger = logging.getLogger(__name__)
CHECKPOINT_NAME = "last.pt"


class EngineConfig(BaseModel):
    """How long, how fast, how often saved."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(10_000, ge=1)
    batch: int = Field(4, ge=1, description="scans per step on each process")
    lr: float = Field(2e-3, gt=0)
    min_lr: float = Field(1e-5, ge=0)
    warmup_steps: int = Field(300, ge=0)
    weight_decay: float = Field(3e-3, ge=0, description="not applied to 1-D weights (norms, biases, scales)")
    clip_norm: float = Field(1.0, gt=0)
    average_decay: float = Field(0.999, ge=0, lt=1)
    precision: Literal["32-true", "bf16-mixed"] = "bf16-mixed"
    save_every: int = Field(100, ge=1)
    evaluate_every: int = Field(1000, ge=1)
    workers: int = Field(0, ge=0, description="data loading processes per training process")
    seed: int = 0


def make_fabric(precision: Literal["32-true", "bf16-mixed"]) -> Fabric:
    """Use the machine's accelerator and, under torchrun, one process per started rank."""
    world, local = (int(os.environ.get(name, 1)) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    strategy = "ddp" if world > 1 else "auto"
    devices = local if world > 1 or not torch.cuda.is_available() else 1
    return Fabric(accelerator="auto", strategy=strategy, devices=devices, num_nodes=world // local, precision=precision)


def learning_rate(step: int, config: EngineConfig) -> float:
    """Linear warm-up, then half a cosine down to `min_lr` (METHODS 1.7)."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.min_lr + (config.lr - config.min_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def make_optimizer(model: nn.Module, config: EngineConfig) -> torch.optim.Optimizer:
    """AdamW; 1-D weights are not decayed."""
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.99))


class _Numbered(Dataset[Any]):
    """Sample i of the endless stream, from step `start` on, for one rank of several."""

    def __init__(self, sample: Callable[[int], Any], start: int, count: int, rank: int, world: int) -> None:
        self.sample, self.start, self.count, self.rank, self.world = sample, start, count, rank, world

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return self.sample((self.start + index) * self.world + self.rank)


def fit(
    model: nn.Module,
    loss: Callable[[nn.Module, Any], Tensor],
    sample: Callable[[int], Any],
    collate: Callable[[list[Any]], Any],
    config: EngineConfig,
    folder: Path,
    fabric: Fabric,
    evaluate: Callable[[nn.Module, int], dict[str, float]] | None = None,
    progress: Callable[[dict[str, float]], None] | None = None,
) -> nn.Module:
    """Train until `config.steps`, continuing from `folder` when it holds a checkpoint.

    Args:
        model: Trained in place.
        loss: (model, batch) → scalar.
        sample: Number → one training item; must depend on the number alone.
        collate: Items → batch; a batch may have `.to(device)`.
        config: Schedule and rates.
        folder: `last.pt` and `log.jsonl` go here.
        fabric: Launched; decides device, precision and number of processes.
        evaluate: (averaged model, step) → figures for the log; called on rank 0 only.
        progress: Gets step, steps, loss, lr and samples_per_s after each step, on rank 0.
    Returns:
        The averaged model.
    Raises:
        ModelError: the checkpoint in `folder` belongs to another network or is damaged.
    """
    optimizer = make_optimizer(model, config)
    average = Average(model, config.average_decay)
    step = _restore(folder, model, optimizer, average)
    wrapped, optimizer = fabric.setup(model, optimizer)
    started, first = time.monotonic(), step
    for batch in _batches(sample, collate, config, step, fabric):
        torch.manual_seed((config.seed * 1_000_003 + step) * fabric.world_size + fabric.global_rank)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, config)
        value = loss(wrapped, batch)
        fabric.backward(value)
        norm = fabric.clip_gradients(wrapped, optimizer, max_norm=config.clip_norm, error_if_nonfinite=False)
        # A NaN gradient would poison the weights for good; every process sees the same reduced norm, so all skip together.
        if norm is not None and bool(torch.isfinite(norm)):
            optimizer.step()
        else:
            logger.warning("step %d skipped: gradient is not finite", step)
        optimizer.zero_grad(set_to_none=True)
        average.update(model, step)
        step += 1
        if fabric.is_global_zero:
            rate = (step - first) * config.batch * fabric.world_size / (time.monotonic() - started)
            facts = {
                "step": step,
                "steps": config.steps,
                "loss": float(value.detach()),
                "lr": learning_rate(step - 1, config),
                "samples_per_s": rate,
            }
            if progress:
                progress(facts)
            if step % 50 == 0:
                _log(folder, facts)
            if step % config.save_every == 0 or step == config.steps:
                _save(folder, model, optimizer, average, step)
            if evaluate and (step % config.evaluate_every == 0 or step == config.steps):
                _log(folder, {"step": step, **evaluate(average.model, step)})
        if step % config.evaluate_every == 0:
            fabric.barrier()
    return average.model


def _batches(
    sample: Callable[[int], Any], collate: Callable[[list[Any]], Any], config: EngineConfig, step: int, fabric: Fabric
) -> Iterator[Any]:
    count = (config.steps - step) * config.batch
    if count <= 0:
        return iter(())
    items = _Numbered(sample, step * config.batch, count, fabric.global_rank, fabric.world_size)
    loader: Iterable[Any] = DataLoader(
        items, config.batch, collate_fn=collate, num_workers=config.workers, persistent_workers=config.workers > 0
    )
    return (batch.to(fabric.device) if hasattr(batch, "to") else batch for batch in loader)


def _save(folder: Path, model: nn.Module, optimizer: Any, average: Average, step: int) -> None:
    state = {"step": step, "model": model.state_dict(), "average": average.model.state_dict(), "optimizer": optimizer.state_dict()}
    with atomic_path(folder / CHECKPOINT_NAME) as path:
        torch.save(state, path)


def _restore(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: Average) -> int:
    path = folder / CHECKPOINT_NAME
    if not path.is_file():
        return 0
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        average.model.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        return int(state["step"])
    except (RuntimeError, KeyError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ModelError(f"{path} does not continue this run ({reason}); choose another folder or delete it to start anew") from error


def _log(folder: Path, facts: dict[str, Any]) -> None:
    # A line lost to a full disk is worth less than the run.
    with suppress(OSError), open(folder / "log.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(facts) + "\n")
