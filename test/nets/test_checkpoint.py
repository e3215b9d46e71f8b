"""Weights on disk: our folders, the layouts of the public code, and what is refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from public_layout import their_state

from xkd_ros.core.card import CARD_NAME, WEIGHTS_NAME, ModelCard, NetworkConfig, load_card
from xkd_ros.core.errors import ModelError
from xkd_ros.core.labels import LabelSet
from xkd_ros.core.weights import weight_shapes
from xkd_ros.nets.batch import collate
from xkd_ros.nets.checkpoint import load_foreign, load_student, save_student
from xkd_ros.nets.student import Student

LABELS = LabelSet(names=tuple("abcde"), colours=((0, 0, 0),) * 5)


def card_of(student: Student) -> ModelCard:
    return ModelCard(name="test", network=student.network, labels=LABELS)


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_a_saved_student_comes_back(tmp_path: Path, make_scan, make_student, norm: str) -> None:
    student = make_student(norm=norm)
    written = save_student(student, card_of(student), tmp_path / "model")
    loaded, card = load_student(tmp_path / "model")
    assert card == written and set(card.files) == {WEIGHTS_NAME} and not loaded.training
    batch = collate([make_scan(0, 80)])
    with torch.no_grad():
        assert torch.equal(loaded.on(batch), student.on(batch))


def test_card_and_weights_must_belong_together(tmp_path: Path, make_student) -> None:
    student, deeper = make_student(), make_student(depth=5)
    with pytest.raises(ModelError, match="depth=5"):
        save_student(student, card_of(deeper), tmp_path)
    save_student(student, card_of(student), tmp_path)
    text = (tmp_path / CARD_NAME).read_text()
    (tmp_path / CARD_NAME).write_text(text.replace('"depth": 4', '"depth": 5'))
    with pytest.raises(ModelError, match=r"lacks .* WI-5-12"):
        load_student(tmp_path)
    (tmp_path / CARD_NAME).write_text(text.replace('"width": 12', '"width": 16'))
    with pytest.raises(ModelError, match="needs"):
        load_student(tmp_path)


def test_altered_weights_are_refused(tmp_path: Path, make_student) -> None:
    student = make_student()
    save_student(student, card_of(student), tmp_path)
    path = tmp_path / WEIGHTS_NAME
    path.write_bytes(path.read_bytes()[:-1] + b"\x55")
    with pytest.raises(ModelError, match="hash differs"):
        load_student(tmp_path)
    path.unlink()
    with pytest.raises(ModelError, match="missing"):
        load_student(tmp_path)
    assert load_card(tmp_path).name == "test"


@pytest.mark.parametrize("norm", ["layer", "batch"])
@pytest.mark.parametrize(
    ("container", "prefix"),
    [("net", "module."), ("net", ""), ("state_dict", "model."), (None, ""), (None, "module.")],
    ids=["WaffleIron DDP", "WaffleIron", "wrapped", "bare", "bare DDP"],
)
def test_public_segmentation_checkpoints(tmp_path: Path, make_scan, make_student, norm: str, container: str | None, prefix: str) -> None:
    student = make_student(norm=norm)
    state = {prefix + key: value for key, value in their_state(student).items()}
    content = {container: state, "epoch": 44, "optim": {"lr": 1e-3}} if container else state
    torch.save(content, tmp_path / "ckpt_last.pth")
    loaded = load_foreign(tmp_path / "ckpt_last.pth")
    assert loaded.network == student.network
    batch = collate([make_scan(1, 80)])
    with torch.no_grad():
        assert torch.allclose(loaded.on(batch), student.on(batch), atol=1e-6)


@pytest.mark.parametrize("container", ["model_point", "model_points"])
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_scalr_distillation_heads_are_dropped(tmp_path: Path, make_student, container: str, head: str) -> None:
    """ScaLR: one layer to the teacher's features; ScaLR+: an MLP. Neither names classes."""
    student = make_student(activation="gelu")
    state = {key: value for key, value in their_state(student).items() if not key.startswith("classif")}
    sizes = {"classif": (1024, 12)} if head == "linear" else {"classif.0": (64, 12), "classif.2": (1024, 64)}
    for name, (rows, columns) in sizes.items():
        state |= {f"{name}.weight": torch.randn(rows, columns, 1), f"{name}.bias": torch.randn(rows)}
    torch.save({container: {f"module.{key}": value for key, value in state.items()}}, tmp_path / "model.pt")
    loaded = load_foreign(tmp_path / "model.pt", student.network)
    assert loaded.network == student.network
    for key, value in student.backbone.state_dict().items():
        assert torch.equal(loaded.backbone.state_dict()[key], value), key
    assert loaded.head.weight.shape == (5, 12)


def test_scalr_probing_head_with_its_batch_norm(tmp_path: Path, make_scan, make_student) -> None:
    """Probing and fine-tuning put a batch norm before the classifier (METHODS 2.5)."""
    student = make_student()
    norm = torch.nn.BatchNorm1d(12).eval()
    with torch.no_grad():
        for tensor, low in ((norm.weight, 0.5), (norm.bias, -0.5), (norm.running_mean, -0.5), (norm.running_var, 0.5)):
            tensor.copy_(torch.rand(12) + low)
    state = their_state(student, head="classif.1")
    state |= {f"classif.0.{key}": value for key, value in norm.state_dict().items()}
    torch.save({"net": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "finetuned.pth")
    loaded = load_foreign(tmp_path / "finetuned.pth")
    batch = collate([make_scan(2, 80)])
    tokens: list[torch.Tensor] = []
    student.head.register_forward_pre_hook(lambda _, inputs: tokens.append(inputs[0]))
    with torch.no_grad():
        student.on(batch)
        expected = student.head(norm(tokens[0]))
        assert torch.allclose(loaded.on(batch), expected, atol=1e-5)


def test_sizes_that_do_not_fit_are_named(tmp_path: Path, make_student) -> None:
    torch.save({"net": their_state(make_student(depth=3))}, tmp_path / "small.pth")
    with pytest.raises(ModelError, match=r"WI-3-12 .* expected a WI-4-12"):
        load_foreign(tmp_path / "small.pth", make_student().network)


@pytest.mark.parametrize(("key", "shape"), [("classif.weight", (768, 12)), ("embed.conv1.weight", (2, 5))])
def test_sizes_that_no_student_has_are_named(tmp_path: Path, make_student, key: str, shape: tuple[int, ...]) -> None:
    torch.save({**their_state(make_student()), key: torch.zeros(*shape, *([1] * (3 - len(shape))))}, tmp_path / "odd.pth")
    with pytest.raises(ModelError, match=r"odd\.pth: '(classes|width)'"):
        load_foreign(tmp_path / "odd.pth")


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_the_list_of_weights_is_that_of_the_student(norm: str) -> None:
    network = NetworkConfig(depth=2, width=8, norm=norm, classes=5)
    assert weight_shapes(network) == {name: tuple(value.shape) for name, value in Student(network).state_dict().items()}


class Planted:
    """Runs a command when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path, writer: str) -> None:
    witness, path = tmp_path / "was_here", tmp_path / "evil.ckpt"
    content = {"net": {"embed.norm.weight": Planted(witness)}}
    if writer == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(ModelError, match="never run"):
        load_foreign(path)
    assert not witness.exists()


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        load_foreign(tmp_path / "absent.pt")
    (tmp_path / "noise.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(ModelError, match="cannot be read"):
        load_foreign(tmp_path / "noise.pt")
    torch.save({"net": {"conv.weight": torch.zeros(3)}}, tmp_path / "other.pt")
    with pytest.raises(ModelError, match="no WaffleIron backbone"):
        load_foreign(tmp_path / "other.pt")
    torch.save({"optimizer": {"lr": 1.0}}, tmp_path / "optimizer.pt")
    with pytest.raises(ModelError, match="holds no weights"):
        load_foreign(tmp_path / "optimizer.pt")
