"""What can be set of the method `ignet`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from xkd_ros.distill.recipe import Recipe, SelfTrainingConfig
from xkd_ros.distill.retraining.config import RetrainConfig


class FovMixConfig(BaseModel):
    """Two scans of a rig become one: the sector that a camera sees is taken from the second."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    share: float = Field(0.5, ge=0, le=1, description="of the scans that are mixed")
    guard_deg: float = Field(2.0, ge=0, le=30, description="left empty on both sides of a border, where the scans do not meet")
    turned: float = Field(0.5, ge=0, le=1, description="of the mixed scans, whose sector is turned first: images then help on all sides")
    parallel: bool = Field(True, description="the sector is turned on until its walls are parallel to those of the other scan")


class IgnetConfig(SelfTrainingConfig):
    """Weakly or semi-supervised training with images (METHODS 4); `label_share` < 1: the other frames are learnt from without labels."""

    method: Literal["ignet"]
    average_decay: float = Field(0.99, ge=0, lt=1, description="of the mean teacher, whose weights are the result")
    consistency_weight: float = Field(0.2, ge=0, description="of agreeing with the mean teacher where there is no label")
    feature_weight: float = Field(1.0, ge=0, description="of saying what the image teacher says where a camera sees")
    contrast_weight: float = Field(0.1, ge=0, description="of resembling what images show of the same class")
    contrast_hidden: int = Field(256, ge=1, description="width between the layers of the head that speaks the image teacher's language")
    temperature: float = Field(0.1, ge=0.03)
    bank: int = Field(256, ge=1, description="image features kept of each class")
    anchors: int = Field(1024, ge=1, description="of a batch, drawn at random; bounds the cost")
    mix: FovMixConfig = FovMixConfig()
    retrain: RetrainConfig = RetrainConfig()

    @classmethod
    def _row(cls, recipe: Recipe, given: dict[str, Any]) -> dict[str, Any]:
        # The papers that a recipe follows report the last weights; this one has a teacher that is their average.
        return {name: value for name, value in super()._row(recipe, given).items() if name != "average_decay"}

    @model_validator(mode="after")
    def _has_a_teacher(self) -> IgnetConfig:
        if self.consistency_weight and not self.average_decay:
            raise ValueError("average_decay 0 makes the student its own teacher: give it a value below 1, or consistency_weight 0")
        return self
