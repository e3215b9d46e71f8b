"""What can be set of a second training."""

from __future__ import annotations

from itertools import pairwise

from pydantic import BaseModel, ConfigDict, Field, field_validator

from xkd_ros.distill.pseudo_config import VoteConfig


class RetrainConfig(BaseModel):
    """A second training, on labels that the student of the first is sure of, balanced by class and range.

    Source: METHODS 4.2 for the balance; votes, and going on from the first training, are ours.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    again: bool | None = Field(
        None,
        description="train twice, the second time on all training frames; none: where frames have poses, so that they can vote, or where a "
        "fifth of them have labels, if few of their points: alone, a student that knows few scans is wrong too often about the others",
    )
    afresh: bool = Field(False, description="begin where the first training began, as published, instead of going on from its student")
    votes: VoteConfig | None = Field(
        VoteConfig(voxel_m=0.2, radius_frames=20, reach_frames=20, min_observations=2, majority=0.6, min_confidence=0),
        description="frames with poses vote on each place first, and what they do not agree on gets no label; none: each frame alone",
    )
    keep: float = Field(0.7, gt=0, le=1, description="share of the surest points of each class and range; 0.5 as published")
    edges_m: tuple[float, ...] = Field(
        (0.0, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0), min_length=1, max_length=64, description="inner radii of the ranges"
    )
    least_points: int = Field(1000, ge=1, description="of a class in a range; fewer are no basis for a threshold")

    @field_validator("edges_m")
    @classmethod
    def _ascending(cls, edges: tuple[float, ...]) -> tuple[float, ...]:
        if any(near >= far for near, far in pairwise(edges)):
            raise ValueError(f"{edges} do not ascend")
        return edges
