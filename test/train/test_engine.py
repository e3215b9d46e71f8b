"""The engine: resumes exactly, survives NaN, averages, and two processes do the work of one."""

from __future__ import annotations

import copy
import json
import multiprocessing
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from xkd_ros.core.errors import ModelError
from xkd_ros.train import engine
from xkd_ros.train.config import EngineConfig
from xkd_ros.train.engine import fit, make_fabric
from xkd_ros.train.log import RunLog
from xkd_ros.train.optimizer import ParameterGroup

CONFIG = EngineConfig(steps=12, batch=4, lr=0.05, warmup_steps=2, save_every=1, precision="32-true", average_decay=0.9)


def _sample(number: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(number)
    x = torch.randn(3, generator=generator)
    return x, x @ torch.tensor([1.0, -2.0, 0.5])


def _collate(items: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.stack([x for x, _ in items]), torch.stack([y for _, y in items])


def _loss(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return (model(batch[0])[:, 0] - batch[1]).square().mean()


def _model() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Linear(3, 1)


def _train(folder: Path, config: EngineConfig = CONFIG, loss=_loss, **kwargs) -> tuple[nn.Module, nn.Module]:
    fabric = make_fabric(config.precision)
    fabric.launch()
    model = _model()
    folder.mkdir(parents=True, exist_ok=True)
    average = fit(model, loss, _sample, _collate, config, folder, fabric, **kwargs)
    return model, average


def test_loss_falls(tmp_path: Path) -> None:
    model, _ = _train(tmp_path, CONFIG.model_copy(update={"steps": 200, "save_every": 100}))
    assert torch.allclose(model.weight, torch.tensor([[1.0, -2.0, 0.5]]), atol=0.05)


class _Interrupted(Exception):
    pass


def test_resumes_to_the_same_weights(tmp_path: Path) -> None:
    whole, whole_average = _train(tmp_path / "whole")

    def stop(done: int, total: int, facts: dict[str, float]) -> None:
        if done == 6:
            raise _Interrupted

    with pytest.raises(_Interrupted):
        _train(tmp_path / "cut", progress=stop)
    resumed, resumed_average = _train(tmp_path / "cut")
    assert torch.equal(whole.weight, resumed.weight)
    assert torch.equal(whole_average.weight, resumed_average.weight)


def test_time_spent_on_batches_is_told(tmp_path: Path) -> None:
    def sample(number: int) -> torch.Tensor:
        time.sleep(0.02)
        return _sample(number)

    seen: list[dict[str, float]] = []
    model, fabric = nn.Linear(3, 1), make_fabric("32-true")
    fit(model, _loss, sample, _collate, CONFIG, tmp_path, fabric, progress=lambda done, total, facts: seen.append(facts))
    assert all(0 <= facts["waiting"] <= 1 for facts in seen) and seen[-1]["waiting"] > 0.2
    assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])["waiting"] == seen[-1]["waiting"]


def test_the_average_is_evaluated_now_and_then_and_at_the_end(tmp_path: Path) -> None:
    seen: dict[int, torch.Tensor] = {}

    def evaluate(average: nn.Linear, step: int) -> dict[str, float]:
        seen[step] = average.weight.clone()
        return {"accuracy": 0.5}

    _, average = _train(tmp_path, CONFIG.model_copy(update={"evaluate_every": 5}), evaluate=evaluate)
    assert list(seen) == [5, 10, 12] and torch.equal(seen[12], average.weight) and not torch.equal(seen[5], average.weight)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "accuracy" in row] == [5, 10, 12]


def test_a_run_killed_while_it_is_evaluated_comes_by_again(tmp_path: Path) -> None:
    seen: list[int] = []

    def killed_once(average: nn.Linear, step: int) -> dict[str, float]:
        seen.append(step)
        if seen == [5]:
            raise KeyboardInterrupt
        return {"accuracy": 0.5}

    config = CONFIG.model_copy(update={"evaluate_every": 5})
    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path, config, evaluate=killed_once)
    _train(tmp_path, config, evaluate=killed_once)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "accuracy" in row] == [5, 10, 12]


def test_the_average_is_shown_before_each_step(tmp_path: Path) -> None:
    seen: list[float] = []

    def watch(average: nn.Module, step: int) -> None:
        assert step == len(seen)
        seen.append(float(average.weight.detach()[0, 0]))

    _, average = _train(tmp_path, watch=watch)
    assert len(seen) == len(set(seen)) == 12 and float(average.weight[0, 0]) not in seen


def test_a_nan_batch_changes_nothing(tmp_path: Path) -> None:
    calls = 0

    def poisoned(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return _loss(model, batch) * (float("nan") if calls == 3 else 1.0)

    model, average = _train(tmp_path, loss=poisoned)
    assert torch.isfinite(model.weight).all() and torch.isfinite(average.weight).all()
    clean, _ = _train(tmp_path / "clean")
    assert not torch.equal(model.weight, clean.weight)


def test_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    _train(tmp_path)
    fabric = make_fabric("32-true")
    with pytest.raises(ModelError, match="does not continue this run"):
        fit(nn.Linear(5, 2), _loss, _sample, _collate, CONFIG, tmp_path, fabric)


def test_damaged_checkpoint_names_the_file(tmp_path: Path) -> None:
    _train(tmp_path)
    path = tmp_path / "last.pt"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ModelError, match=r"last\.pt"):
        _train(tmp_path)


def test_batch_statistics_survive_a_nan_batch(tmp_path: Path) -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1))

    def sample(number: int) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = _sample(number)
        return (x * float("nan") if 8 <= number < 12 else x), y

    fabric = make_fabric("32-true")
    average = fit(model, _loss, sample, _collate, CONFIG, tmp_path, fabric)
    for net in (model, average):
        assert all(torch.isfinite(tensor).all() for tensor in net.state_dict().values())
    assert int(model[0].num_batches_tracked) == CONFIG.steps - 1


def test_batches_without_labels_change_nothing_but_the_decay(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"weight_decay": 0.0})
    model, average = _train(tmp_path, config, loss=lambda model, batch: 0.0 * model(batch[0]).sum())
    assert torch.equal(model.weight, _model().weight) and torch.allclose(average.weight, model.weight)


def test_accumulated_parts_equal_the_whole_batch(tmp_path: Path) -> None:
    whole, _ = _train(tmp_path / "whole")
    parts, _ = _train(tmp_path / "parts", CONFIG.model_copy(update={"batch": 1, "accumulate": 4}))
    assert torch.allclose(whole.weight, parts.weight, atol=1e-6)


def test_groups_learn_at_their_own_rate(tmp_path: Path) -> None:
    model = _model()
    before = copy.deepcopy(model.state_dict())
    groups = [ParameterGroup((model.weight,), 1.0), ParameterGroup((model.bias,), 0.0)]
    fit(model, _loss, _sample, _collate, CONFIG, tmp_path, make_fabric("32-true"), groups=groups)
    assert torch.equal(model.bias, before["bias"]) and not torch.equal(model.weight, before["weight"])


@pytest.mark.parametrize(("hardware", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
def test_precision_follows_the_hardware_unless_it_is_named(hardware: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_multiplies_bf16", lambda: hardware)
    assert EngineConfig().precision == "auto"
    assert make_fabric("auto")._precision.precision == expected
    assert make_fabric("bf16-mixed")._precision.precision == "bf16-mixed"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="page faults are counted on Linux only")
def test_freed_memory_is_kept_for_the_next_step() -> None:
    """Blocks of a few megabytes, as every step allocates and frees them, cost page faults only the first time."""
    program = """
import resource, sys
from xkd_ros.train.allocator import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else True
def steps():
    for _ in range(20):
        blocks = [b"x" * 50_000_000]
        del blocks
steps()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
steps()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    outcomes = {
        mode: subprocess.run([sys.executable, "-c", program, mode], capture_output=True, text=True, check=True).stdout.split()
        for mode in ("keep", "as-is")
    }
    if outcomes["keep"][0] == "False":
        pytest.skip("the C library is not glibc")
    if int(outcomes["as-is"][1]) < 10_000:
        pytest.skip("this system counts no page faults")
    assert int(outcomes["keep"][1]) < 0.05 * int(outcomes["as-is"][1])


def test_an_average_without_memory_is_the_model(tmp_path: Path) -> None:
    model, average = _train(tmp_path, CONFIG.model_copy(update={"average_decay": 0.0, "clip_norm": None}))
    assert torch.equal(model.weight, average.weight)


def test_the_log_of_a_continued_run_repeats_nothing(tmp_path: Path) -> None:
    _train(tmp_path)
    log = tmp_path / "log.jsonl"
    with open(log, "a") as file:
        file.write('{"step": 99, "loss": 1.0}\n{"step": 7, "lo')
    _train(tmp_path, CONFIG.model_copy(update={"steps": 14}))
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines()]
    assert steps == [12, 14] and any((tmp_path / "tensorboard").iterdir())


def test_killed_at_any_moment_it_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    """Kill -9 a process, from which the runs are forked so that torch is imported once, at random moments until it has finished."""
    config = CONFIG.model_copy(update={"steps": 150, "tensorboard": False})
    folder, rng, context = tmp_path / "killed", random.Random(0), multiprocessing.get_context("fork")
    steps = context.Value("i", 0)

    def count(*facts: object) -> None:
        steps.value += 1

    for _ in range(20):
        steps.value = 0
        child = context.Process(target=_train, args=(folder, config), kwargs={"progress": count})
        child.start()
        # Lives are measured in steps, so a slow machine kills as often as a fast one; the moment within a step is anyone's guess.
        wanted = rng.randint(1, 9)
        while steps.value < wanted and child.is_alive():
            time.sleep(0.0005)
        time.sleep(rng.uniform(0, 0.003))
        child.kill()
        child.join()
    whole, average = _train(tmp_path / "whole", config)
    resumed, resumed_average = _train(folder, config)
    assert torch.equal(whole.weight, resumed.weight) and torch.equal(average.weight, resumed_average.weight)
    assert {path.name for path in folder.iterdir()} == {"last.pt", "log.jsonl"}


_WORKER = """
import sys, torch
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from test_engine import CONFIG, _train
world = int(__import__('os').environ.get('WORLD_SIZE', 1))
model, _ = _train(Path(sys.argv[1]), CONFIG.model_copy(update={'batch': CONFIG.batch // world}))
if int(__import__('os').environ.get('RANK', 0)) == 0:
    torch.save(model.state_dict(), Path(sys.argv[1]) / 'final.pt')
"""


def test_two_processes_equal_one_with_the_same_total_batch(tmp_path: Path, torchrun: Callable[..., None]) -> None:
    script = tmp_path / "worker.py"
    script.write_text(_WORKER)
    torchrun(script, tmp_path / "two", Path(__file__).parent)
    one, _ = _train(tmp_path / "one")
    two = torch.load(tmp_path / "two" / "final.pt", weights_only=True)
    assert torch.allclose(one.weight, two["weight"], atol=1e-5)


def test_a_line_of_the_log_is_json_whatever_the_figures_are(tmp_path: Path) -> None:
    log = RunLog(tmp_path, 0, tensorboard=False)
    log.write({"step": 3, "loss": float("nan"), "iou": {"door": float("inf"), "wall": [0.5, float("nan")]}})

    def refuse(word: str) -> None:
        raise AssertionError(word)

    line = json.loads((tmp_path / "log.jsonl").read_text(), parse_constant=refuse)
    assert line == {"step": 3, "loss": None, "iou": {"door": None, "wall": [0.5, None]}}
