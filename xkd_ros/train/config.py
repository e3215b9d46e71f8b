"""How long, how fast, how often saved."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Precision = Literal["auto", "32-true", "bf16-mixed"]


class EngineConfig(BaseModel):
    """Settings of one training run; steps, not epochs, because the engine does not know what its samples are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(10_000, ge=1)
    batch: int = Field(4, ge=1, description="scans per backward pass on each process")
    accumulate: int = Field(1, ge=1, description="backward passes per step; batch x accumulate scans make a step on each process")
    balance_steps: int = Field(
        1, ge=1, description="steps whose scans are dealt out so that every batch has about as many points; evens the load of processes"
    )
    schedule: Literal["cosine", "inverse_sqrt_cooldown"] = "cosine"
    lr: float = Field(2e-3, gt=0)
    min_lr: float = Field(1e-5, ge=0, description="where the cosine ends")
    warmup_steps: int = Field(300, ge=0)
    decay_steps: float = Field(1000.0, gt=0, description="time constant of inverse_sqrt_cooldown")
    cooldown_steps: int = Field(0, ge=0, description="linear descent to 0 at the end of inverse_sqrt_cooldown")
    weight_decay: float = Field(3e-3, ge=0)
    decay_vectors: bool = Field(False, description="also decay 1-D weights (norms, biases, scales)")
    beta2: float = Field(0.99, gt=0, lt=1, description="memory of AdamW's second moment; torch's default is 0.999")
    clip_norm: float | None = Field(1.0, gt=0, description="largest gradient norm; None clips nothing")
    average_decay: float = Field(0.999, ge=0, lt=1, description="of the moving average of the weights; 0 returns the last weights")
    precision: Precision = Field("auto", description="auto: bf16-mixed on GPUs that have it, else 32-true")
    save_every: int = Field(100, ge=1)
    evaluate_every: int = Field(1000, ge=1)
    workers: int | None = Field(
        None,
        ge=0,
        description="data loading processes per training process; none: 0 on a CPU, up to 12 beside a GPU",
    )
    tensorboard: bool = Field(True, description="write curves for TensorBoard where it is installed")
    seed: int = Field(0, ge=0)
