"""How long work tells whoever started it how far it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Report = Callable[[int, int, Mapping[str, float]], None]
"""(done, total, facts): facts by name, such as "loss" or "frames_per_s"; empty where there is nothing to say."""
