"""Tiny random image models, saved as a hub download is, and frames of a small room."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from xkd_ros.bags.frame import Frame, View
from xkd_ros.core.camera import Camera

ANCHORS = {0: "wall", 3: "floor, flooring", 5: "ceiling", 8: "window ", 12: "person, individual", 14: "door", 15: "table", 19: "chair"}
ADE20K_NAMES = {number: ANCHORS.get(number, f"thing {number}") for number in range(150)}
VIT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
SWIN = {"image_size": 64, "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 4}
DECODER = {"num_attention_heads": 2, "hidden_dim": 32, "encoder_layers": 1, "decoder_layers": 2, "num_queries": 7, "dim_feedforward": 32}


def shake(network: torch.nn.Module) -> torch.nn.Module:
    """Give every weight a size that matters: fresh models have tiny ones, and norms that do nothing."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            drawn = torch.randn(weight.shape, generator=generator)
            weight.copy_(1 + 0.3 * drawn if "norm" in name and name.endswith("weight") else drawn * (0.2 if weight.ndim > 1 else 0.5))
    return network.eval()


def swin(t: Any) -> Any:
    return t.SwinConfig(**SWIN, out_features=["stage1", "stage2", "stage3", "stage4"])


def build(kind: str, labels: int = 150) -> torch.nn.Module:
    """Build a tiny model of a family."""
    names = {number: ADE20K_NAMES.get(number, f"thing {number}") for number in range(labels)}
    t = pytest.importorskip("transformers", reason="needs transformers: pip install 'transformers>=5'")
    torch.manual_seed(0)
    if kind == "dinov2":
        return t.Dinov2Model(t.Dinov2Config(**VIT, mlp_ratio=2, image_size=56, patch_size=14))
    if kind == "dinov2_with_registers":
        return t.Dinov2WithRegistersModel(t.Dinov2WithRegistersConfig(**VIT, mlp_ratio=2, image_size=56, patch_size=14))
    if kind == "dinov3_vit":
        return t.DINOv3ViTModel(t.DINOv3ViTConfig(**VIT, intermediate_size=64, image_size=64, patch_size=16, num_register_tokens=4))
    if kind == "radio":
        return t.RadioModel(t.RadioConfig(**VIT, mlp_ratio=2.0, patch_size=16, image_size=64, max_img_size=512))
    if kind == "mask2former":
        config = t.Mask2FormerConfig(
            backbone_config=swin(t), **DECODER, feature_size=32, mask_feature_size=32, encoder_feedforward_dim=32, id2label=names
        )
        return t.Mask2FormerForUniversalSegmentation(config)
    if kind == "oneformer":
        config = t.OneFormerConfig(
            backbone_config=swin(t), **DECODER, conv_dim=32, mask_dim=32, encoder_feedforward_dim=32, id2label=names, task_seq_len=20
        )
        return t.OneFormerForUniversalSegmentation(config)
    if kind == "eomt":
        config = t.EomtConfig(**VIT, mlp_ratio=2, image_size=64, patch_size=16, num_queries=7, num_blocks=1, id2label=names)
        return t.EomtForUniversalSegmentation(config)
    if kind == "eomt_dinov3":
        config = t.EomtDinov3Config(**VIT, intermediate_size=64, image_size=64, patch_size=16, num_queries=7, num_blocks=1, id2label=names)
        return t.EomtDinov3ForUniversalSegmentation(config)
    if kind == "grounding-dino":
        text = t.BertConfig(vocab_size=1200, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
        config = t.GroundingDinoConfig(
            backbone_config=t.SwinConfig(**SWIN, out_features=["stage2", "stage3", "stage4"]),
            text_config=text, d_model=32, num_queries=9, max_text_len=160,
            **{f"{part}_{name}": size for part in ("encoder", "decoder") for name, size in
               (("layers", 2), ("ffn_dim", 32), ("attention_heads", 2), ("n_points", 2))},
        )  # fmt: skip
        return t.GroundingDinoForObjectDetection(config)
    if kind == "owlv2":
        sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        words = {"vocab_size": 600, "max_position_embeddings": 16, "eos_token_id": 518, "bos_token_id": 517, "pad_token_id": 0}
        vision = {**sizes, "image_size": 64, "patch_size": 16}
        config = t.Owlv2Config(text_config={**sizes, **words}, vision_config=vision, projection_dim=32)
        return t.Owlv2ForObjectDetection(config)
    assert kind == "segformer"
    sizes = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2], "decoder_hidden_size": 16}
    return t.SegformerForSemanticSegmentation(t.SegformerConfig(**sizes, id2label=names))


def save_tokenizer(folder: Path) -> None:
    """Write a CLIP tokenizer whose words are the letters and what the task needs."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    merges = ["t h", "th e</w>", "t a", "s k</w>", "ta sk</w>", "i s</w>"]
    words = [*letters, *(letter + "</w>" for letter in letters), *(merge.replace(" ", "") for merge in merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 77}))


def save_bert_tokenizer(folder: Path) -> None:
    """Write a BERT tokenizer that knows letters and a few words; Grounding DINO counts on where the marks stand."""
    words = [f"[unused{number}]" for number in range(1200)]
    letters = "abcdefghijklmnopqrstuvwxyz"
    known = [*letters, *(f"##{letter}" for letter in letters), "door", "window", "chair", "table", "person"]
    words[200 : 200 + len(known)] = known
    for place, mark in ((0, "[PAD]"), (100, "[UNK]"), (101, "[CLS]"), (102, "[SEP]"), (103, "[MASK]"), (1012, "."), (1029, "?")):
        words[place] = mark
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True}))


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a tiny model with random weights, by family; made once."""
    made: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind)
            # Grounding DINO compares words and places by a product of their norms, which large weights drive to 0 or 1.
            (build(kind).eval() if kind == "grounding-dino" else shake(build(kind))).save_pretrained(made[kind])
            if kind in ("oneformer", "owlv2"):
                save_tokenizer(made[kind])
            if kind == "grounding-dino":
                save_bert_tokenizer(made[kind])
        return made[kind]

    return get


@pytest.fixture(scope="session")
def picture() -> np.ndarray:
    """Smooth colours with some noise: (72, 96, 3) uint8."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(0, 255, (1, 3, 6, 8)))
    smooth = torch.nn.functional.interpolate(coarse, (72, 96), mode="bicubic")[0].permute(1, 2, 0).numpy()
    return np.clip(smooth + rng.normal(0, 5, smooth.shape), 0, 255).astype(np.uint8)


@dataclass
class FewFrames:
    """Frames in memory, with what targets need of a frame store."""

    items: list[Frame]
    hash: str = "frames-1"

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, number: int) -> Frame:
        return self.items[number]


CAM_FROM_LIDAR = np.array([[0, -1, 0, 0.0], [0, 0, -1, -0.1], [1, 0, 0, 0.05], [0, 0, 0, 1]])
CAMERA = Camera(96, 72, np.array([[60.0, 0, 47.5], [0, 60, 35.5], [0, 0, 1]]))


def encode(rgb: np.ndarray) -> bytes:
    cv2 = pytest.importorskip("cv2")
    return bytes(cv2.imencode(".png", rgb[:, :, ::-1])[1])


@pytest.fixture(scope="session")
def make_frames(picture: np.ndarray) -> Callable[..., FewFrames]:
    """Frames of a box room seen by one camera to the front: make_frames(count, cam_from_lidar=..., cameras=...)."""

    def make(count: int = 3, cam_from_lidar: np.ndarray = CAM_FROM_LIDAR, dt_ns: Sequence[int] = (1_000_000,)) -> FewFrames:
        frames = []
        for number in range(count):
            rng = np.random.default_rng(number)
            direction = rng.normal(size=(900, 3)) * (1, 1, 0.4)
            points = (direction / np.abs(direction / (4, 3, 1.3)).max(1, keepdims=True)).astype(np.float32)
            views = tuple(
                View(f"cam{place}", CAMERA, cam_from_lidar, dt, encode(np.roll(picture, 7 * number + place, 1)))
                for place, dt in enumerate(dt_ns)
            )
            frames.append(Frame(number, number, "walk", "rig", "train", points, None, np.eye(3), views=views))
        return FewFrames(frames)

    return make
