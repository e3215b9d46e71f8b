"""The fused head on disk, beside the student whose tokens it reads; next: `runtime`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from xkd_ros.core.config import validate
from xkd_ros.core.errors import ConfigError, ModelError
from xkd_ros.core.files import sha256, write_atomic
from xkd_ros.nets.fusion import FusedHead, FusionSizes
from xkd_ros.nets.student import Student

WEIGHTS_NAME, CARD_NAME = "fused.safetensors", "fused.json"
_LARGEST_CARD_BYTES = 100_000


class FusedCard(BaseModel):
    """What a fused head is built from, and to which networks it belongs.

    Attributes:
        width, features, classes, attention: See `FusionSizes`.
        backbone: Hash of the weights whose tokens it reads.
        teacher: Fingerprint of the image teacher whose features it reads, or "" where nobody said.
        sha256: Of its own weights.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    width: int = Field(ge=1, le=2048)
    features: int = Field(ge=1, le=8192)
    classes: int = Field(ge=1, le=254)
    attention: int = Field(ge=1, le=2048)
    backbone: str
    teacher: str = ""
    sha256: str = ""

    @property
    def sizes(self) -> FusionSizes:
        """Sizes of the head."""
        return FusionSizes(self.width, self.features, self.classes, self.attention)


def backbone_hash(student: Student) -> str:
    """Hash the weights of a student's backbone."""
    weights = {name: value.detach().cpu().contiguous() for name, value in student.backbone.state_dict().items()}
    return hashlib.sha256(save(weights)).hexdigest()


def save_fused(head: FusedHead, student: Student, teacher: str, folder: Path) -> FusedCard:
    """Write weights and card, each atomically, card last.

    Args:
        head: The fused head.
        student: Whose tokens it reads.
        teacher: Fingerprint of the image teacher, or "".
        folder: Created when missing.
    Raises:
        XkdError: the folder cannot be written.
    """
    write_atomic(folder / WEIGHTS_NAME, save({name: value.detach().cpu().contiguous() for name, value in head.state_dict().items()}))
    card = FusedCard(**head.sizes._asdict(), backbone=backbone_hash(student), teacher=teacher, sha256=sha256(folder / WEIGHTS_NAME))
    write_atomic(folder / CARD_NAME, card.model_dump_json(indent=1) + "\n")
    return card


def load_fused(folder: Path, student: Student) -> tuple[FusedHead, FusedCard]:
    """Read a fused head in evaluation mode on the CPU.

    Args:
        folder: Holds fused.json and fused.safetensors.
        student: Whose tokens it is to read.
    Raises:
        ModelError: missing, damaged, or of another student.
    """
    path = folder / WEIGHTS_NAME
    try:
        if (folder / CARD_NAME).stat().st_size > _LARGEST_CARD_BYTES:
            raise ModelError(f"{folder / CARD_NAME} is too large for a card: damaged; copy the whole model folder again")
        card = validate(json.loads((folder / CARD_NAME).read_bytes()), FusedCard, CARD_NAME)
    except (OSError, ValueError, ConfigError) as error:
        raise ModelError(f"{folder} holds no fused head ({' '.join(str(error).split())[:160]}); train with the recipe xmodel") from error
    if card.backbone != backbone_hash(student):
        raise ModelError(f"{path} belongs to another student than the one it was asked to read; copy both from one training")
    try:
        if sha256(path) != card.sha256:
            raise ModelError(f"{path} is not the file {CARD_NAME} was written for (hash differs); copy the whole model folder again")
        head = FusedHead(card.sizes)
        head.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ModelError(f"{path} cannot be read ({' '.join(str(error).split())[:160]}); copy the whole model folder again") from error
    return head.eval(), card
