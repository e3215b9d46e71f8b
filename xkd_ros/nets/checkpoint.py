"""Weights on disk: ours as safetensors beside the card, foreign ones read without unpickling code.

Source: key layouts read in valeoai/WaffleIron @bcd387c and valeoai/ScaLR @53c474d, branch scalr_plus @7cf02a2 (METHODS 1.10, 2.9).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from xkd_ros.core.card import WEIGHTS_NAME, ModelCard, NetworkConfig, load_card, model_file, save_card
from xkd_ros.core.config import validate
from xkd_ros.core.errors import ConfigError, ModelError
from xkd_ros.core.files import sha256, write_atomic
from xkd_ros.core.weights import check_weights, describe
from xkd_ros.nets.student import Student

# One row per module of the public code: its name there → its name here. Tried in order on the part after the wrapper prefixes.
_FOREIGN_NAMES = (
    (r"^embed\.norm\.", "backbone.embedding.norm."),
    (r"^embed\.conv1\.", "backbone.embedding.point."),
    (r"^embed\.conv2\.0\.", "backbone.embedding.difference_norm."),
    (r"^embed\.conv2\.1\.", "backbone.embedding.difference."),
    (r"^embed\.conv2\.2\.", "backbone.embedding.hidden_norm."),
    (r"^embed\.conv2\.4\.", "backbone.embedding.neighbour."),
    (r"^embed\.final\.", "backbone.embedding.merge."),
    (r"^waffleiron\.(spatial|channel)_mix\.(\d+)\.norm\.", r"backbone.\1.\2.norm."),
    (r"^waffleiron\.spatial_mix\.(\d+)\.ffn\.0\.", r"backbone.spatial.\1.conv1."),
    (r"^waffleiron\.spatial_mix\.(\d+)\.ffn\.2\.", r"backbone.spatial.\1.conv2."),
    (r"^waffleiron\.channel_mix\.(\d+)\.mlp\.0\.", r"backbone.channel.\1.linear1."),
    (r"^waffleiron\.channel_mix\.(\d+)\.mlp\.2\.", r"backbone.channel.\1.linear2."),
    (r"^waffleiron\.(spatial|channel)_mix\.(\d+)\.scale\.weight$", r"backbone.\1.\2.scale"),
    (r"^classif\.(weight|bias)$", r"head.\1"),
    (r"^classif\.0\.", "probe_norm."),
    (r"^classif\.1\.", "head."),
)
_WRAPPERS = re.compile(r"^(module\.|_orig_mod\.|model\.)+")
_CONTAINERS = ("net", "model_point", "model_points", "state_dict", "model")
_DISTILLED = ("model_point", "model_points")


def save_student(student: Student, card: ModelCard, folder: str | Path) -> ModelCard:
    """Write `student.safetensors` and `card.json`, each atomically, card last.

    Args:
        student: The network; its sizes must be the card's.
        card: Everything else; `files` is completed here.
        folder: Created when missing.
    Returns:
        The card as written.
    Raises:
        ModelError: sizes of card and network differ.
        XkdError: the folder cannot be written.
    """
    if student.network != card.network:
        raise ModelError(f"card says {card.network}, the network is {student.network}")
    folder = Path(folder)
    write_weights(student, folder / WEIGHTS_NAME)
    card = card.model_copy(update={"files": {**card.files, WEIGHTS_NAME: sha256(folder / WEIGHTS_NAME)}})
    save_card(card, folder)
    return card


def load_student(folder: str | Path) -> tuple[Student, ModelCard]:
    """Load a model folder in evaluation mode on the CPU.

    Raises:
        ModelError: no card, no weights, damaged weights, or weights of another network than the card's.
    """
    card = load_card(folder)
    return read_weights(model_file(folder, card, WEIGHTS_NAME), card.network), card


def write_weights(student: Student, path: Path) -> None:
    """Write the weights alone, atomically; what network they are of must be known elsewhere.

    Raises:
        XkdError: the folder cannot be written.
    """
    write_atomic(path, save({key: value.detach().cpu().contiguous() for key, value in student.state_dict().items()}))


def read_weights(path: Path, network: NetworkConfig) -> Student:
    """Read a student in evaluation mode on the CPU from its weights alone.

    Raises:
        ModelError: no file, a damaged one, or one of another network.
    """
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is not a readable safetensors file ({error}); copy or export the model again") from error
    student = Student(network)
    load_state(student, state, str(path))
    return student.eval()


def load_state(student: Student, state: dict[str, Tensor], where: str) -> None:
    """Load weights, or say in one line which do not fit.

    Raises:
        ModelError: missing, unknown or differently shaped weights.
    """
    check_weights({name: tuple(value.shape) for name, value in state.items()}, student.network, where)
    student.load_state_dict(state)


def load_foreign(path: str | Path, network: NetworkConfig | None = None) -> Student:
    """Load a checkpoint of the public WaffleIron, ScaLR or ScaLR+ code.

    The sizes are read from the weights. The batch norm that probing and fine-tuning put before the classifier is folded into it; the
    head of a distillation run predicts image features, not classes, so it is dropped and the classifier stays at its random start.

    Args:
        path: A `.ckpt`/`.pt` file; opened with `weights_only=True`, so no code in it can run.
        network: Sizes to insist on, but for the number of classes; activation cannot be read from weights (ScaLR+ uses gelu) and is
            taken from here.
    Raises:
        ModelError: unreadable, refused as unsafe, not a WaffleIron, or of other sizes than asked.
    """
    path = Path(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelError(f"checkpoint {path} does not exist") from error
    except Exception as error:  # torch raises a different type for each way of being broken
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{path} cannot be read as plain weights ({reason}); code in checkpoints is never run") from error
    weights, distilled = _find_weights(content, path)
    state = _rename(weights)
    _settle_head(state, distilled)
    found = _infer_network(state, path)
    if network is not None:
        classes = found.classes if "head.weight" in state else network.classes
        found = found.model_copy(update={"activation": network.activation, "classes": classes})
        if found != network.model_copy(update={"classes": classes}):
            raise ModelError(f"{path} holds a {describe(found)}, expected a {describe(network)}")
    student = Student(found)
    own = student.state_dict()
    # Their 1x1 convolutions are our linear layers: the same numbers in another shape.
    for key in own.keys() & state.keys():
        if state[key].numel() == own[key].numel():
            state[key] = state[key].reshape(own[key].shape)
    for key in ("head.weight", "head.bias"):
        state.setdefault(key, own[key])
    load_state(student, state, str(path))
    return student.eval()


def _find_weights(content: Any, path: Path) -> tuple[dict[str, Tensor], bool]:
    distilled = False
    for _ in range(3):
        if isinstance(content, dict) and content and all(isinstance(value, Tensor) for value in content.values()):
            return content, distilled
        keys = [key for key in _CONTAINERS if isinstance(content, dict) and key in content]
        if not keys:
            break
        distilled = distilled or keys[0] in _DISTILLED
        content = content[keys[0]]
    raise ModelError(f"{path} holds no weights under any of {', '.join(_CONTAINERS)}: not a WaffleIron, ScaLR or ScaLR+ checkpoint")


def _settle_head(state: dict[str, Tensor], distilled: bool) -> None:
    """Leave one linear classifier in `state`, or none."""
    norm = {key.removeprefix("probe_norm."): state.pop(key) for key in list(state) if key.startswith("probe_norm.")}
    if distilled or (norm and "running_var" not in norm):
        for key in ("head.weight", "head.bias"):
            state.pop(key, None)
    elif norm and "head.weight" in state:
        weight = state["head.weight"].flatten(1)
        # 1e-5 is the eps that the public code leaves at its default.
        scale = norm["weight"] * torch.rsqrt(norm["running_var"] + 1e-5)
        state["head.bias"] = state["head.bias"] + weight @ (norm["bias"] - scale * norm["running_mean"])
        state["head.weight"] = weight * scale


def _rename(state: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        short = _WRAPPERS.sub("", key)
        for pattern, name in _FOREIGN_NAMES:
            ours, count = re.subn(pattern, name, short)
            if count:
                renamed[ours] = value
                break
    return renamed


def _infer_network(state: dict[str, Tensor], path: Path) -> NetworkConfig:
    depths = [int(match[1]) for key in state if (match := re.match(r"backbone\.channel\.(\d+)\.", key))]
    point = state.get("backbone.embedding.point.weight")
    if not depths or point is None or "backbone.channel.0.norm.weight" not in state:
        raise ModelError(f"{path} holds no WaffleIron backbone (embed.*, waffleiron.channel_mix.*)")
    head = state.get("head.weight")
    sizes = {
        "depth": max(depths) + 1,
        "width": len(point),
        "norm": "batch" if "backbone.channel.0.norm.running_mean" in state else "layer",
        "classes": NetworkConfig().classes if head is None else len(head),
    }
    try:
        return validate(sizes, NetworkConfig, str(path))
    except ConfigError as error:
        raise ModelError(str(error)) from error
