"""Learning rate of every step."""

from __future__ import annotations

import math

from xkd_ros.train.config import EngineConfig


def learning_rate(step: int, config: EngineConfig) -> float:
    """Compute the rate of step 0, 1, 2 ...; parameter groups multiply it by their own scale.

    Both schedules begin with a linear warm-up. `cosine` then takes half a cosine down to `min_lr` (METHODS 1.7).
    `inverse_sqrt_cooldown` divides by sqrt(1 + t / decay_steps), t counted from the end of the warm-up, and ends with a straight line
    to 0. That line starts where the curve would be with t counted from step 0, so the rate drops by under one per cent there, as
    in the code of ScaLR+.

    Source: METHODS 2.4. Differs: the first step has 1 / warmup_steps of the rate instead of 0, which would move nothing.
    """
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    if config.schedule == "cosine":
        done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
        return config.min_lr + (config.lr - config.min_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    cooldown_start = max(config.warmup_steps, config.steps - config.cooldown_steps)
    if step < cooldown_start:
        return config.lr / math.sqrt(1 + (step - config.warmup_steps) / config.decay_steps)
    left = max(0, config.steps - step) / max(1, config.cooldown_steps)
    return left * config.lr / math.sqrt(1 + cooldown_start / config.decay_steps)
