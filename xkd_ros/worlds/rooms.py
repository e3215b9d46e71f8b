"""What belongs into each kind of room: one function per kind, and the clutter and wall fixtures that any room may have."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from xkd_ros.worlds import boards, clutter, fixtures, rooms_home, rooms_public, rooms_work
from xkd_ros.worlds.furnisher import Furnisher
from xkd_ros.worlds.placing import board_on_wall

KINDS: dict[str, Callable[[Furnisher], None]] = {
    "office": rooms_work.office,
    "openoffice": rooms_work.openoffice,
    "meeting": rooms_work.meeting,
    "lab": rooms_work.lab,
    "workshop": rooms_work.workshop,
    "storage": rooms_work.store,
    "copyroom": rooms_work.copyroom,
    "classroom": rooms_public.classroom,
    "lecture": rooms_public.lecture,
    "library": rooms_public.library,
    "lounge": rooms_public.lounge,
    "canteen": rooms_public.canteen,
    "hall": rooms_public.hall,
    "lobby": rooms_public.hall,
    "gym": rooms_public.hall,
    "garage": rooms_public.garage,
    "corridor": rooms_public.corridor,
    "stairwell": rooms_public.stairwell,
    "kitchen": rooms_home.kitchen,
    "toilet": rooms_home.toilet,
    "bedroom": rooms_home.bedroom,
}


def furnish(f: Furnisher) -> None:
    """Fill a room with what its kind needs and with what any room may have."""
    if f.density > 0.02:
        KINDS[f.room.kind](f)
    for _ in range(f.count(min(f.room.area, 150) / 11)):
        _any_clutter(f)
    for _ in range(int(f.rng.poisson(0.8 + f.room.area / 60))):
        _any_fixture(f)


def _any_clutter(f: Furnisher) -> None:
    pick = f.rng.uniform()
    if pick < 0.2:
        w, d = f.uniform(0.25, 0.9), f.uniform(0.25, 0.7)
        f.free(w, d, partial(clutter.boxes, w=w, d=d), 0.3)
    elif pick < 0.3:
        f.free(0.5, 0.5, clutter.bin_)
    elif pick < 0.38:
        f.free(0.5, 0.5, clutter.plant)
    elif pick < 0.46:
        f.free(0.5, 0.4, clutter.bag)
    elif pick < 0.56:
        w, h = f.uniform(0.6, 2.6), min(f.uniform(1.0, 2.3), f.room.height - 0.2)
        f.free(w, 0.5, partial(boards.panel, w=w, h=h), 0.4)
    elif pick < 0.62:
        f.free(0.9, 0.9, clutter.tripod, 0.2)
    elif pick < 0.7:
        f.free(0.9, 0.55, partial(clutter.trolley, w=0.85, d=0.5))
    elif pick < 0.75:
        f.free(0.9, 1.2, clutter.robot, 0.2)
    elif pick < 0.79:
        f.along_wall(1.8, 0.6, 1.1, clutter.bicycle)
    elif pick < 0.84:
        f.free(0.45, 0.45, clutter.fan)
    elif pick < 0.9:
        w = f.uniform(0.6, 2.0)
        f.along_wall(w, 0.6, 1.9, partial(clutter.heap, w=w, d=0.6))
    else:
        w, d, h = f.uniform(0.3, 1.2), f.uniform(0.3, 1.0), f.uniform(0.4, 2.0)
        f.free(w, d, partial(clutter.machine, w=w, d=d, h=h), 0.6)


def _any_fixture(f: Furnisher) -> None:
    pick, w, h = f.rng.uniform(), f.uniform(0.6, 3.5), f.room.height
    if pick < 0.3:
        f.on_wall(w, 0.9, 2.2, partial(fixtures.posters, w=w))
    elif pick < 0.45:
        board_on_wall(f)
    elif pick < 0.52:
        f.on_wall(2.0, 0.9, 2.2, fixtures.television)
    elif pick < 0.68:
        f.on_wall(w * 0.5, 0.1, h - 0.1, partial(fixtures.pipes, w=w * 0.5, height=h))
    elif pick < 0.76:
        f.on_wall(w, 0.05, h - 0.05, partial(fixtures.panels, w=w, height=h))
    else:
        f.on_wall(1.0, 0.5, 2.2, fixtures.box_on_wall)
