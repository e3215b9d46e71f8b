"""One training loop, read from top to bottom: rate, batch, loss, step, average, log, save, evaluate.

In: a model, a loss, samples addressed by their number. Out: a folder with `last.pt`, the log, and the averaged weights.
Everything a step does follows from (seed, step, rank), so a killed run continues as if nothing had happened.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from xkd_ros.core.progress import Report
from xkd_ros.train.allocator import keep_freed_memory
from xkd_ros.train.average import Average
from xkd_ros.train.checkpoint import restore_checkpoint, save_checkpoint, sweep
from xkd_ros.train.config import EngineConfig, Precision
from xkd_ros.train.log import RunLog
from xkd_ros.train.optimizer import ParameterGroup, make_optimizer, set_rates, split_by_shape
from xkd_ros.train.schedule import learning_rate
from xkd_ros.train.stream import batches

ModelT = TypeVar("ModelT", bound=nn.Module)

logger = logging.getLogger(__name__)
_LOG_EVERY = 50


def make_fabric(precision: Precision = "auto") -> Fabric:
    """Use the machine's accelerator and, under torchrun, one process per started rank."""
    if precision == "auto":
        precision = "bf16-mixed" if _multiplies_bf16() else "32-true"
    if not torch.cuda.is_available():
        keep_freed_memory()
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    world, local = (int(os.environ.get(name, 1)) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    strategy = "ddp" if world > 1 else "auto"
    devices = local if world > 1 or not torch.cuda.is_available() else 1
    return Fabric(accelerator="auto", strategy=strategy, devices=devices, num_nodes=world // local, precision=precision)


def fit(
    model: ModelT,
    loss: Callable[[nn.Module, Any], Tensor],
    sample: Callable[[int], Any],
    collate: Callable[[list[Any]], Any],
    config: EngineConfig,
    folder: Path,
    fabric: Fabric,
    evaluate: Callable[[ModelT, int], dict[str, Any]] | None = None,
    progress: Report | None = None,
    groups: Sequence[ParameterGroup] | None = None,
    size: Callable[[Any], int] | None = None,
    watch: Callable[[ModelT, int], None] | None = None,
) -> ModelT:
    """Train until `config.steps`, continuing from `folder` when it holds a checkpoint.

    Args:
        model: Trained in place.
        loss: (model, batch) → scalar, finite also for a batch that teaches nothing.
        sample: Number → one training item; must depend on the number alone.
        collate: Items → batch; a batch may have `.to(device)`.
        config: Schedule and rates.
        folder: `last.pt`, `log.jsonl` and `tensorboard/` go here; shared by all processes.
        fabric: Launched; decides device, precision and number of processes.
        evaluate: (averaged model on the CPU, step) → figures for the log; called on rank 0 only.
        progress: Told after each step on rank 0, with loss, lr, samples_per_s and waiting: the share of the time in which batches were made
            or awaited, the most that a GPU can have been idle for them.
        groups: Weights with their share of the learning rate; None: all that learn, alike.
        size: Item → its cost, such as points, for `balance_steps` and accumulation; None deals items in their order.
        watch: (averaged model on this process's device, number of the step) before each step, on every process. What it changes must
            be the same on all of them, and lie in buffers of `model` if it is to outlive an interruption.
    Returns:
        The averaged model, on the CPU.
    Raises:
        ModelError: the checkpoint in `folder` belongs to another network or is damaged.
        XkdError: the folder is not writable or the disk is full.
    """
    groups = groups or split_by_shape(model.parameters(), config.decay_vectors)
    wrapped, optimizer = fabric.setup(model, make_optimizer(groups, config))
    average = Average(model, config.average_decay)
    first = restore_checkpoint(folder, model, optimizer, average)
    log = None
    if fabric.is_global_zero:
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        log = RunLog(folder, first, config.tensorboard)
    stream = batches(sample, collate, size, config, fabric, first)
    started, waited = time.monotonic(), 0.0
    batch = next(stream, None)
    for step in range(first, config.steps):
        rate = learning_rate(step, config)
        set_rates(optimizer, groups, rate)
        if watch:
            watch(average.model, step)
        statistics = [buffer.clone() for buffer in model.buffers()]
        value = 0.0
        for part in range(config.accumulate):
            torch.manual_seed(((config.seed * 1_000_003 + step) * config.accumulate + part) * fabric.world_size + fabric.global_rank)
            with fabric.no_backward_sync(wrapped, enabled=part < config.accumulate - 1):
                share = loss(wrapped, batch) / config.accumulate
                fabric.backward(share)
            # The next batch is made while the device is still at work on this one.
            asked = time.monotonic()
            batch = next(stream, None)
            waited += time.monotonic() - asked
            value += float(share.detach())
        norm = fabric.clip_gradients(wrapped, optimizer, max_norm=config.clip_norm or math.inf, error_if_nonfinite=False)
        # A NaN would poison weights and batch statistics for good; every process sees the same reduced norm, so all skip together.
        if norm is not None and bool(torch.isfinite(norm)):
            optimizer.step()
        else:
            logger.warning("step %d skipped: gradient is not finite", step)
            for buffer, before in zip(model.buffers(), statistics):
                buffer.copy_(before)
        optimizer.zero_grad(set_to_none=True)
        average.update(model, step)
        done = step + 1
        if log:
            samples = (done - first) * config.batch * config.accumulate * fabric.world_size
            elapsed = time.monotonic() - started
            facts = {"loss": value, "lr": rate, "samples_per_s": samples / elapsed, "waiting": waited / elapsed}
            if progress:
                progress(done, config.steps, facts)
            if done % _LOG_EVERY == 0 or done == config.steps:
                log.write({"step": done, "steps": config.steps, **facts})
            # Evaluated before it is saved: a run that is killed meanwhile comes by here again.
            if evaluate and (done % config.evaluate_every == 0 or done == config.steps):
                log.write({"step": done, **evaluate(average.on_cpu(), done)})
            if done % config.save_every == 0 or done == config.steps:
                save_checkpoint(folder, model, optimizer, average, done)
        if done % config.evaluate_every == 0:
            fabric.barrier()
    if log:
        log.close()
    # A process that leaves first takes its connections with it, while another may still be reading from them.
    fabric.barrier()
    return average.on_cpu()


def _multiplies_bf16() -> bool:
    """Whether bfloat16 saves time here. On a CPU it does not: the compiled kernels know float32 alone (`xkd bench training`)."""
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
