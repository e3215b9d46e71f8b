"""Settings of teachers and of the targets that are made with them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt


class TeacherConfig(BaseModel):
    """How a teacher looks at an image; part of its fingerprint."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    short_side_px: int | None = Field(
        None,
        ge=28,
        le=4096,
        description="Shorter side of the image as the model sees it, rounded to whole patches; the longer side keeps the camera's aspect. "
        "None: 448 for patch 14, 480 for patch 16, 640 for OneFormer and Mask2Former; EoMT always has its own.",
    )
    sampling: Literal["corners", "patch_centres"] = Field(
        "corners",
        description="Where features lie: 'corners' stretches the patch grid to the image corners as the ScaLR code does (align_corners), "
        "'patch_centres' is geometrically true; they differ by up to half a patch at the border.",
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: float32 on the CPU, bfloat16 on a GPU that has it, else float16"
    )
    erode_px: NonNegativeFloat = Field(3.0, description="Interior points have one class this far around, in pixels of the camera image")


class TargetConfig(BaseModel):
    """Which points of a frame get targets."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_depth_m: NonNegativeFloat = Field(0.3, description="Nearer points are left out (ScaLR uses 1 m outdoors)")
    max_dt_ms: PositiveFloat | None = Field(None, description="Views further in time from the scan are left out; None keeps all")
    edge_px: NonNegativeFloat = Field(3.0, description="Points this near to a jump in depth are marked as edge")
    edge_m: PositiveFloat = Field(0.3, description="Smallest jump in depth")
    max_points_per_view: PositiveInt | None = Field(None, description="Keep a random subset of this size; None keeps every visible point")
    frames_per_shard: PositiveInt = Field(16, description="Frames that are written, and resumed, together")
    seed: NonNegativeInt = 0
