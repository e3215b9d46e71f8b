"""What distillation leaves behind: a backbone without a head, and how it reads scans. Probing and fine-tuning start from it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from xkd_ros.core.card import NetworkConfig
from xkd_ros.core.config import validate
from xkd_ros.core.errors import ConfigError, ModelError
from xkd_ros.core.files import sha256, write_atomic
from xkd_ros.distill.student_input import StudentConfig
from xkd_ros.nets.heads import make_backbone
from xkd_ros.nets.waffleiron import WaffleIron

WEIGHTS_NAME, CARD_NAME = "backbone.safetensors", "backbone.json"
_LARGEST_CARD_BYTES = 1_000_000


class BackboneCard(BaseModel):
    """Sizes, preprocessing and origin of a backbone; `sha256` is of its weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    network: NetworkConfig
    student: StudentConfig
    recipe: dict[str, Any] = {}
    sha256: str = ""


@dataclass(frozen=True, eq=False)
class Backbone:
    """Weights by name, and their card."""

    card: BackboneCard
    weights: dict[str, Tensor]

    @classmethod
    def of(cls, backbone: WaffleIron, network: NetworkConfig, student: StudentConfig, recipe: dict[str, Any]) -> Backbone:
        """Take a copy of the weights of a network."""
        weights = {name: value.detach().cpu().clone().contiguous() for name, value in backbone.state_dict().items()}
        return cls(BackboneCard(network=network, student=student, recipe=recipe), weights)

    @classmethod
    def untrained(cls, network: NetworkConfig, student: StudentConfig, seed: int) -> Backbone:
        """Draw random weights that depend on the seed alone: where learning from nothing starts."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return cls.of(make_backbone(network), network, student, {"method": "none"})

    def build(self, drop_path: float = 0.0, checkpointing: bool = False) -> WaffleIron:
        """Make a network with these weights."""
        backbone = make_backbone(self.card.network, drop_path, checkpointing)
        backbone.load_state_dict(self.weights)
        return backbone

    def save(self, folder: Path) -> Backbone:
        """Write weights and card, each atomically, card last; return what was written.

        Raises:
            XkdError: the folder is not writable or the disk is full.
        """
        write_atomic(folder / WEIGHTS_NAME, save(self.weights))
        card = self.card.model_copy(update={"sha256": sha256(folder / WEIGHTS_NAME)})
        write_atomic(folder / CARD_NAME, card.model_dump_json(indent=1) + "\n")
        return Backbone(card, self.weights)


def load_backbone(folder: Path) -> Backbone:
    """Read a backbone from its folder.

    Raises:
        ModelError: missing, damaged, or not the weights that the card was written for.
    """
    path = folder / WEIGHTS_NAME
    try:
        if (folder / CARD_NAME).stat().st_size > _LARGEST_CARD_BYTES:
            raise ModelError(f"{folder / CARD_NAME} is too large for a card: damaged; distil again")
        # Not read as YAML, where 1e-06 is a string.
        card = validate(json.loads((folder / CARD_NAME).read_bytes()), BackboneCard, CARD_NAME)
    except (OSError, ValueError, ConfigError) as error:
        raise ModelError(f"{folder} holds no finished backbone ({' '.join(str(error).split())[:160]}); distil again") from error
    try:
        if sha256(path) != card.sha256:
            raise ModelError(f"{path} is not the file {CARD_NAME} was written for (hash differs); distil again")
        backbone = Backbone(card, load_file(path))
        backbone.build()
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ModelError(f"{path} cannot be read ({' '.join(str(error).split())[:160]}); distil again") from error
    return backbone
