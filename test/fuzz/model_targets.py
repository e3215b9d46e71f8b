"""Targets: rig files, model cards, weights and graphs."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from mutation import mutate_bytes, mutate_tree, nasty

from xkd_ros.core.card import GeometryConfig, ModelCard, NetworkConfig, load_card, save_card
from xkd_ros.core.errors import CloudError, XkdError
from xkd_ros.core.rig import load_rig
from xkd_ros.core.types import UNKNOWN
from xkd_ros.points.preprocessor import Preprocessor
from xkd_ros.runtime.probe import make_room_scan
from xkd_ros.runtime.segmenter import Segmenter


@cache
def small_model(folder: Path) -> Path:
    """A small random model with all its files."""
    from xkd_ros.export.onnx_export import export_onnx
    from xkd_ros.nets.checkpoint import save_student
    from xkd_ros.nets.student import seeded_student

    if not (folder / "fuzzed").exists():
        network = NetworkConfig(depth=2, width=8)
        card = ModelCard(name="fuzzed", network=network, geometry=GeometryConfig(neighbours=4))
        save_student(seeded_student(network, 0), card, folder / "fuzzed")
        export_onnx(folder / "fuzzed")
    return folder / "fuzzed"


RIG = {
    "name": "rig",
    "lidar": {"topic": "/points", "frame_id": "lidar", "rpy_deg": [0.0, 1.0, 2.0], "height_m": 1.0},
    "cameras": [
        {
            "name": "front", "topic": "/image", "model": "plumb_bob", "width": 64, "height": 48,
            "K": [50.0, 0.0, 32.0, 0.0, 50.0, 24.0, 0, 0, 1],
            "D": [0.1, 0.0, 0.0, 0.0], "cam_from_lidar": [0.0, -1.0, 0, 0, 0, 0, -1.0, 0, 1.0, 0, 0, 0, 0, 0, 0, 1],
        }
    ],
}  # fmt: skip


def rig(rng: np.random.Generator, scratch: Path) -> XkdError | None:
    """A rig file, changed as a tree or as text, and its cameras at work."""
    path = scratch / "rig.yaml"
    text = yaml.safe_dump(RIG)
    path.write_bytes(_tree_or_text(rng, RIG, lambda tree: yaml.dump(tree).encode(), text.encode()))
    try:
        found = load_rig(path)
        found.lidar.rotation()
        for config in found.cameras:
            config.camera().project((rng.uniform(-5, 5, (20, 4)) * [1, 1, 1, 0] + [0, 0, 0, 1]) @ config.transform().T[:, :3])
    except XkdError as error:
        return error
    return None


def card(rng: np.random.Generator, scratch: Path) -> XkdError | None:
    """card.json, changed as a tree or as text, and a scan preprocessed as it says."""
    text = (small_model(scratch) / "card.json").read_bytes()
    folder = scratch / "carded"
    clear(folder)
    (folder / "card.json").write_bytes(_tree_or_text(rng, json.loads(text), lambda tree: json.dumps(tree).encode(), text))
    try:
        found = load_card(folder)
        assert found.usual_entropy is None or isinstance(found.usual_entropy, float)
        net_input = Preprocessor(found.geometry, found.intensity, threads=1)(*make_room_scan(0, 4, 40, 6.0))
        assert all(size <= 1_000_000 for grid in net_input.grids for size in grid)
    except XkdError as error:
        return error
    return None


def model(rng: np.random.Generator, scratch: Path) -> XkdError | None:
    """Weights and graphs with changed bytes, under a card that lists them as they are, or with another network than theirs."""
    source = small_model(scratch)
    folder = scratch / "modelled"
    clear(folder)
    for file in source.iterdir():
        shutil.copy(file, folder)
    found = load_card(folder)
    backend, name = (("numba", "student.safetensors"), ("onnxruntime", "student.ort.onnx"))[rng.integers(0, 2)]
    if rng.random() < 0.2:
        network = {"depth": int(rng.integers(1, 4)), "width": int(rng.choice([4, 8, 16])), "norm": str(rng.choice(["layer", "batch"]))}
        found = found.model_copy(update={"network": NetworkConfig(**network)})
    else:
        content = mutate_bytes(rng, (folder / name).read_bytes())
        (folder / name).write_bytes(content)
        if rng.random() < 0.9:
            found = found.model_copy(update={"files": {**found.files, name: hashlib.sha256(content).hexdigest()}})
    save_card(found, folder)
    try:
        answer = Segmenter.load(folder, backend, threads=1).segment(*make_room_scan(0, 4, 60, 6.0), np.eye(3))
        assert ((answer.labels < 12) | (answer.labels == UNKNOWN)).all() and np.isfinite(answer.entropy).all()
    except XkdError as error:
        return error
    except Exception as error:
        # At work a graph may fail in onnxruntime's own ways: the node counts the cloud as failed and goes on.
        if backend == "onnxruntime" and type(error).__module__.startswith("onnxruntime"):
            return CloudError(str(error))
        raise
    return None


def _tree_or_text(rng: np.random.Generator, tree: Any, dump: Callable[[Any], bytes], text: bytes) -> bytes:
    if rng.random() < 0.6:
        changed = nasty(rng) if rng.random() < 0.02 else mutate_tree(rng, tree)
        return dump(changed)
    return mutate_bytes(rng, text)


def clear(folder: Path) -> None:
    """Empty a folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
