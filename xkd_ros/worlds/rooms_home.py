"""Rooms as in homes: kitchens, toilets, bedrooms."""

from __future__ import annotations

from functools import partial

from xkd_ros.worlds import fixtures, storage
from xkd_ros.worlds.equipped import equipped_counter, toilet_stall
from xkd_ros.worlds.furnisher import Furnisher
from xkd_ros.worlds.placing import desk_at_wall, storage_along, table_with_chairs


def kitchen(f: Furnisher) -> None:
    """Furnish a kitchen: counters, cupboards, appliances, a table."""
    for _ in range(2):
        w, h, cupboard = f.uniform(1.2, 3.5), f.uniform(0.85, 0.95), f.uniform(1.35, 1.5)
        build = partial(equipped_counter, w=w, h=h, cupboard=cupboard, amount=0.3 + f.density * 0.5)
        f.along_wall(w, 0.62, 2.1, build, gap=0.01)
    for _ in range(int(f.rng.integers(1, 4))):
        w, h = f.uniform(0.55, 0.75), float(f.rng.choice([0.85, 1.5, 1.85]))
        f.along_wall(w, 0.65, h, partial(storage.fridge, w=w, d=0.65, h=h))
    table_with_chairs(f, f.uniform(0.8, 1.6), f.uniform(0.7, 0.9), 0.74, 1, margin=0.6)


def toilet(f: Furnisher) -> None:
    """Furnish a toilet: basins, a mirror, bowls between partitions."""
    w = f.uniform(0.7, 2.4)
    f.along_wall(w, 0.5, 0.9, partial(storage.sink_block, w=w, d=0.5), gap=0.0)
    f.on_wall(f.uniform(0.7, 1.0), 0.9, 2.0, partial(fixtures.mirror, w=0.6))
    for _ in range(int(f.rng.integers(1, 5))):
        f.along_wall(0.95, 0.75, 2.1, toilet_stall, gap=0.0)


def bedroom(f: Furnisher) -> None:
    """Furnish a bedroom or hospital room."""
    for _ in range(int(f.rng.integers(1, 3))):
        w, d = f.uniform(0.9, 1.8), f.uniform(1.95, 2.15)
        f.along_wall(w, d, 1.0, partial(storage.bed, w=w, d=d))
    desk_at_wall(f, 1)
    storage_along(f, 2.5)
