"""The trained 2D teacher on disk: `teacher.json` says everything, `image_student.safetensors` holds the weights in half precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from xkd_ros.core import config
from xkd_ros.core.errors import ConfigError, ModelError
from xkd_ros.core.files import inside, sha256, write_atomic
from xkd_ros.core.labels import INDOOR12, LabelSet
from xkd_ros.nets.image_input import ImageInputConfig
from xkd_ros.nets.image_student import ImageNetworkConfig, ImageStudent

CARD_NAME, WEIGHTS_NAME = "teacher.json", "image_student.safetensors"


class ImageTeacherCard(BaseModel):
    """Everything that must agree between teaching the image model and being taught by it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    kind: Literal["sim2d"] = "sim2d"
    name: str = Field("sim2d", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    labels: LabelSet = INDOOR12
    network: ImageNetworkConfig = ImageNetworkConfig()
    input: ImageInputConfig = ImageInputConfig()
    temperature: float = Field(1.0, gt=0.05, le=20.0, description="divides the logits before softmax")
    family: str = Field("teach2d", description="texture family of the pictures it learnt from")
    truth: str = Field("", description="where its labels came from, in a sentence for people")
    files: dict[str, str] = Field(default_factory=dict, description="file name to sha256")
    recipe: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, Any] = Field(default_factory=dict)
    licence: str = ""

    @model_validator(mode="after")
    def _classes(self) -> ImageTeacherCard:
        if self.network.classes != len(self.labels):
            raise ValueError(f"the network has {self.network.classes} outputs but {len(self.labels)} class names are given")
        return self


def save_image_teacher(network: ImageStudent, card: ImageTeacherCard, folder: str | Path) -> ImageTeacherCard:
    """Write weights and card, each atomically, card last.

    Args:
        network: Its sizes must be the card's; weights are stored as float16.
        card: Everything else; `files` is completed here.
        folder: Created when missing.
    Returns:
        The card as written.
    Raises:
        ModelError: sizes of card and network differ, or a weight is too large for float16.
        XkdError: the folder cannot be written.
    """
    if network.network != card.network:
        raise ModelError(f"card says {card.network}, the network is {network.network}")
    folder = Path(folder)
    state = {key: value.detach().cpu().half().contiguous() for key, value in network.state_dict().items()}
    broken = [key for key, value in state.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise ModelError(f"weights such as '{broken[0]}' are not finite: the training went wrong; train again with a lower rate")
    write_atomic(folder / WEIGHTS_NAME, save(state))
    card = card.model_copy(update={"files": {WEIGHTS_NAME: sha256(folder / WEIGHTS_NAME)}})
    write_atomic(folder / CARD_NAME, card.model_dump_json(indent=1) + "\n")
    return card


def load_image_card(folder: str | Path) -> ImageTeacherCard:
    """Read and check `teacher.json`.

    Raises:
        ModelError: absent, or breaks its own rules.
    """
    path = Path(folder) / CARD_NAME
    if not path.is_file():
        raise ModelError(f"{folder} has no {CARD_NAME}; it is not the folder of a 2D teacher (xkd teach2d writes one)")
    try:
        return config.load_yaml(path, ImageTeacherCard)
    except ConfigError as error:
        raise ModelError(str(error)) from error


def load_image_teacher(folder: str | Path) -> tuple[ImageStudent, ImageTeacherCard]:
    """Load a 2D teacher in evaluation mode on the CPU, in float32.

    Raises:
        ModelError: no card, no weights, damaged weights, or weights of another network than the card's.
    """
    card = load_image_card(folder)
    path = inside(folder, WEIGHTS_NAME)
    if WEIGHTS_NAME not in card.files or not path.is_file():
        raise ModelError(f"{path} is missing or not listed in {CARD_NAME}; copy the whole teacher folder")
    if sha256(path) != card.files[WEIGHTS_NAME]:
        raise ModelError(f"{path} is not the file {CARD_NAME} was written for (hash differs); copy the whole teacher folder again")
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is not a readable safetensors file ({error}); copy the teacher again") from error
    network = ImageStudent(card.network)
    own = network.state_dict()
    wrong = sorted(own.keys() ^ state.keys()) + [key for key in own.keys() & state.keys() if own[key].shape != state[key].shape]
    if wrong:
        raise ModelError(
            f"{path} does not fit the sizes in {CARD_NAME}: {len(wrong)} weights such as '{wrong[0]}'; train the teacher again"
        )
    network.load_state_dict(state)
    return network.eval(), card
