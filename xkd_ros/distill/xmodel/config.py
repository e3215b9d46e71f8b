"""What can be set of the method `xmodel`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from xkd_ros.distill.recipe import SelfTrainingConfig
from xkd_ros.distill.retraining.config import RetrainConfig


class XModelConfig(SelfTrainingConfig):
    """Training beside a fused head (METHODS 6); all numbers are our reconstruction, the paper's text was not available."""

    method: Literal["xmodel"] = "xmodel"
    views: int = Field(4, ge=1, description="pictures of a frame at most, drawn at random where there are more")
    skip_edges: bool = Field(True, description="leave out pixels of points near a jump in depth, which may belong to what is behind")
    max_pairs: int | None = Field(None, ge=16, description="of a scan, drawn at random; bounds the cost")
    unlabelled: float = Field(
        0.5, ge=0, lt=1, description="share of the scans that come from frames whose labels are not used, where label_share leaves such"
    )
    attention: int = Field(128, ge=1, description="width in which a point's token asks its pictures")
    drop_pictures: float = Field(0.3, ge=0, lt=1, description="share of the scans whose pictures the fused head does not see")
    fused_weight: float = Field(1.0, ge=0, description="of the fused head's own loss of labels")
    agreement_weight: float = Field(1.0, ge=0, description="of saying what the fused head says, where it sees a picture")
    agreement_temperature: float = Field(2.0, gt=0)
    contrast_weight: float = Field(0.5, ge=0, description="of points resembling what pictures show of them, and nothing else")
    contrast_points: int = Field(4096, ge=1, description="of a batch, drawn at random; bounds the cost")
    contrast_temperature: float = Field(0.07, ge=0.03)
    alike_cosine: float = Field(0.9, ge=-1, le=1, description="what the image teacher finds more alike than this is not told apart")
    code: int = Field(128, ge=1, description="length of the vectors that are compared")
    cosine_weight: float = Field(0.5, ge=0, description="of saying what the image teacher says")
    head_hidden: int = Field(256, ge=1, description="width between the layers of the head that says it")
    retrain: RetrainConfig = RetrainConfig()
