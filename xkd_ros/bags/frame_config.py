"""What a frame store is made of: every choice that decides which scans and pictures it holds and how."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

SPLITS = ("train", "val", "test")


class FrameConfig(BaseModel):
    """How recordings become frames."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    points: tuple[str, ...] = Field((), description="lidar topics, each a source of its own; empty: the rig's, else the only one")
    max_dt_ms: float = Field(50.0, ge=0, le=10_000, description="largest |image stamp - scan stamp|")
    min_depth_m: float = Field(0.3, ge=0, description="nearer points are not counted as seen by a camera")
    every: int = Field(1, ge=1, description="keep each n-th paired scan")
    keep_unpaired: bool = Field(False, description="keep scans without a picture too, for evaluation")
    split: Literal["auto", "bag", "blocks"] = Field("auto", description="by whole recordings, or by blocks of each; auto: METHODS 3.2")
    shares: tuple[float, float, float] = Field((0.7, 0.15, 0.15), description="train, val, test")
    block_s: float = Field(30.0, gt=0, description="length of the shortest kind of block; longer recordings have several of each")
    gap_s: float = Field(1.0, ge=0, description="frames this soon after a change of split are left out")
    deskew: bool = Field(True, description="undo the motion during a sweep where points have times and poses cover them")
    levelling: Literal["scan", "rig"] = Field(
        "scan", description="gravity from each scan, on top of the rig's mounting; or the mounting alone"
    )
    body_radius_m: float = Field(0.0, ge=0, le=5, description="drop points nearer than this")
    body_box_m: tuple[float, float, float, float, float, float] | None = Field(
        None, description="drop points in this box: x, y, z minimum, x, y, z maximum, lidar frame"
    )
    learn_body_m: float = Field(1.5, ge=0, le=4, description="drop what stays in place within this distance while the robot moves; 0: off")
    jpeg_quality: int = Field(95, ge=50, le=100, description="for pictures that did not come as JPEG or PNG")
    check_view: bool = Field(True, description="refuse an extrinsic that looks inverted")
    label_column: str | None = Field(None, description="column of PLY, PCD and CSV label files; None: found by its name")
    label_map: dict[int, int] | None = Field(None, description="number in the label files to class; others become 255")
    label_set: Literal["indoor12", "struct4"] = Field("indoor12", description="what the classes of PLY, PCD and CSV label files mean")
    shard_frames: int = Field(64, ge=1, le=1024, description="frames per file; an interrupted write goes on at the last whole one")

    @model_validator(mode="after")
    def _sensible(self) -> FrameConfig:
        if any(share < 0 for share in self.shares) or abs(sum(self.shares) - 1) > 1e-6 or self.shares[0] == 0:
            raise ValueError(f"shares {self.shares} are not negative, add up to 1 and leave something to train")
        if self.body_box_m is not None and any(low >= high for low, high in zip(self.body_box_m[:3], self.body_box_m[3:])):
            raise ValueError(f"body box {self.body_box_m} is x, y, z minimum, then x, y, z maximum")
        return self
