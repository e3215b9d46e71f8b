"""What can be set of the method `partdistill`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from xkd_ros.distill.recipe import Recipe, WholeStudentConfig
from xkd_ros.metrics.unit_quality import Agreement


class PixelUnitConfig(BaseModel):
    """Units from a teacher that names the class of every pixel (METHODS 5.4)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    grid_px: int = Field(4, ge=1, le=32, description="the teacher is asked at each n-th pixel; its maps are no finer")
    least_area_px: int = Field(400, ge=1, description="smaller components are no units")
    erode_px: int = Field(3, ge=0, description="taken off the rim of a component, rounded up to whole cells of the grid")
    gap_m: float = Field(0.5, gt=0, description="a component is parted where the depths of its points leave such a gap")
    least_points: int = Field(3, ge=1, description="of the lidar in a unit")


class BoxUnitConfig(BaseModel):
    """Units from a teacher that draws boxes (METHODS 5.4)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    least_score: float = Field(0.2, ge=0, le=1, description="of a box")
    before_m: float = Field(0.3, ge=0, description="foreground begins so far before the tenth percentile of the depths in a box")
    behind_m: float = Field(0.5, ge=0, description="and ends so far behind their median")
    behind_heights: float = Field(1.0, ge=0, description="or so many heights of the box behind it, if that is more")
    least_points: int = Field(3, ge=1, description="of the lidar in a unit")


class RescoringConfig(BaseModel):
    """When the averaged student judges the units, and what becomes of those that it does not agree with (METHODS 5.1, 5.4)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    window_epochs: int = Field(5, ge=1, description="epochs of the moving average of the loss")
    change: float = Field(
        0.01,
        ge=0,
        description="begin when it changes by less in an epoch, as a share of the first epoch's loss; told an epoch after the window",
    )
    latest: float = Field(0.12, ge=0, le=1, description="begin after this share of the steps in any case: in 25 epochs, this decides")
    agreement: Agreement = Field(
        "probability",
        description="argmax: share of a unit's points that the student gives its class, which is its weight, as published; probability: "
        "mean probability of that class there beside that of the most probable one, as a share of what the surest quarter of the units "
        "of the class reach",
    )
    every_epochs: float = Field(2.0, gt=0, description="judge again")
    floor: float = Field(0.05, ge=0, le=1, description="smallest weight of a unit that is kept")
    drop: float = Field(0.1, ge=0, le=1, description="units of a smaller weight are left out")


class PartDistillConfig(WholeStudentConfig):
    """Learning from masks with a class; `class_weight_power` counts with `balance: power` alone."""

    method: Literal["partdistill"]
    label_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the frames whose labels are learnt from beside the units; 0: those of hand-labelled scans alone (few-shot), "
        "where there are such",
    )
    labelled_share: float = Field(0.25, ge=0, le=1, description="of the scans that have such labels, where fewer frames have")
    pixels: PixelUnitConfig | None = Field(PixelUnitConfig(), description="units from the label teacher; none: boxes alone")
    box_teacher: str | None = Field(None, description="folder or hub id of Grounding DINO or OWLv2; none: pixels alone")
    boxes: BoxUnitConfig = BoxUnitConfig()
    form: Literal["unit", "point"] = Field("unit", description="unit: each unit weighs the same, as published; point: each point does")
    least_points: int = Field(20, ge=1, description="a smaller unit weighs less, or few points would weigh as much as a wall")
    balance: Literal["log", "effective", "power"] = Field("log", description="how much more rare classes weigh")
    label_weight: float = Field(1.0, ge=0, description="of the cross-entropy of labels, given or simulated, beside the loss of units")
    generated: Path | None = Field(
        None, description="simulated walks, whose true labels are learnt from as well: what `xkd simulate` wrote, or their frame store"
    )
    generated_share: float = Field(0.3, ge=0, le=0.3, description="of the scans that are simulated, where there are simulated ones")
    backward: RescoringConfig | None = Field(RescoringConfig(), description="none: every unit keeps its teacher's confidence")

    @classmethod
    def _row(cls, recipe: Recipe, given: dict[str, Any]) -> dict[str, Any]:
        # Units are many even where labels are few.
        return cls.table[recipe]

    @model_validator(mode="after")
    def _means_something(self) -> PartDistillConfig:
        if self.pixels is None and self.box_teacher is None:
            raise ValueError("no units: give a box_teacher, or settings of pixels")
        if self.group_weight:
            raise ValueError("group_weight is of the loss of labels, which partdistill does not have: leave it 0")
        return self
