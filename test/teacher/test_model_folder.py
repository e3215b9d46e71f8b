"""Folders that are not whole, and hub ids without a hub: one clear line each."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from xkd_ros.core.errors import ModelError
from xkd_ros.teacher.config import TeacherConfig
from xkd_ros.teacher.teacher import load_teacher

SMALL = TeacherConfig(short_side_px=56)


@pytest.fixture
def folder(model_folder, tmp_path) -> Path:
    """A copy of a tiny DINOv2 to damage."""
    return Path(shutil.copytree(model_folder("dinov2"), tmp_path / "model"))


def refusal(spec: Path | str) -> str:
    with pytest.raises(ModelError) as error:
        load_teacher(str(spec))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_is_missing_is_named(folder, tmp_path):
    assert "there is no teacher folder" in refusal(tmp_path / "nothing")
    (folder / "model.safetensors").rename(folder / "elsewhere")
    assert "has no weights (model.safetensors or pytorch_model.bin)" in refusal(folder)
    (folder / "config.json").unlink()
    assert "neither config.json" in refusal(folder)


def test_shards_must_all_be_there(folder):
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "lacks 1 of 2 weight files (model-2.safetensors)" in refusal(folder)
    index["weight_map"]["b"] = "../model.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "would leave its folder" in refusal(folder)


def test_damage_is_named(folder):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "cannot load Dinov2Model" in refusal(folder)
    (folder / "config.json").write_text("{")
    assert "cannot read" in refusal(folder)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    assert "model_type 'bert', which is no teacher; known are dinov2, " in refusal(folder)


def test_weights_that_do_not_fit_are_refused(folder):
    """transformers would fill the gaps with random numbers and only warn."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    assert "tensors are absent or of another size (encoder.layer.2." in refusal(folder)
    (folder / "config.json").write_text(json.dumps({**config, "patch_size": 7, "image_size": 28}))
    assert "1 tensors are absent or of another size (embeddings.patch_embeddings" in refusal(folder)


def test_torch_checkpoints_load_without_unpickling_code(folder, picture):
    """The weights of OneFormer are only published in this form."""
    from safetensors.torch import load_file

    uv = np.array([[5.0, 6.0]], np.float32)
    expected = load_teacher(str(folder), config=SMALL).look(picture, uv).features
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    assert (load_teacher(str(folder), config=SMALL).look(picture, uv).features == expected).all()

    class Trap:
        def __reduce__(self):
            return (Path.touch, (folder / "executed",))

    torch.save({**weights, "trap": Trap()}, folder / "pytorch_model.bin")
    assert "cannot load Dinov2Model" in refusal(folder)
    assert not (folder / "executed").exists()


def test_a_hub_id_without_hub_says_what_to_do(monkeypatch, tmp_path):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    said = refusal("facebook/dinov2-small")
    assert "`hf download facebook/dinov2-small --local-dir DIR`, then give DIR" in said


def test_a_hub_id_is_found_in_the_cache_offline(folder, monkeypatch, tmp_path, picture):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    repository = tmp_path / "cache" / "models--someone--tiny"
    (repository / "snapshots").mkdir(parents=True)
    (repository / "blobs").mkdir()
    shutil.copytree(folder, repository / "snapshots" / "abc")
    # The cache holds links to blobs.
    blob = repository / "blobs" / "weights"
    (repository / "snapshots" / "abc" / "model.safetensors").rename(blob)
    (repository / "snapshots" / "abc" / "model.safetensors").symlink_to(blob)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    teacher = load_teacher("someone/tiny", config=SMALL)
    assert teacher.name == "someone/tiny"
    assert teacher.fingerprint == load_teacher(str(folder), config=SMALL).fingerprint
