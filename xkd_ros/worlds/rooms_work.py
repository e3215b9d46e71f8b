"""Rooms for work: offices, meeting rooms, laboratories, workshops, stores."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from xkd_ros.worlds import clutter, fixtures, seats, stairs, storage
from xkd_ros.worlds.equipped import equipped_cubicle, equipped_lab_bench, equipped_table, equipped_workbench, seat_place
from xkd_ros.worlds.furnisher import Furnisher
from xkd_ros.worlds.placing import board_on_wall, desk_at_wall, storage_along, table_with_chairs


def office(f: Furnisher) -> None:
    """Furnish a small office."""
    taste = 0 if f.chance(0.85) else 1
    for _ in range(1 + f.count(f.room.area / 9)):
        desk_at_wall(f, taste)
    if f.chance(0.3):
        table_with_chairs(f, f.uniform(1.2, 2.0), f.uniform(0.7, 1.2), 0.74, taste, margin=0.5)
    storage_along(f, f.room.area / 7)
    if f.chance(0.5):
        board_on_wall(f)


def openoffice(f: Furnisher) -> None:
    """Furnish an open-plan office with desk blocks or cubicles."""
    w, d, h = f.uniform(1.2, 1.8), f.uniform(0.65, 0.85), f.uniform(0.7, 0.76)
    if f.chance(0.5):
        desk = partial(equipped_cubicle, w=w, d=d, h=h, screen=f.uniform(1.0, 1.7), amount=f.density * 0.5)
    else:
        desk = partial(equipped_table, w=w, d=d, h=h, amount=f.density * 0.5, screens=0.95, drawers=0.35)
    room, pitch, step = f.room, f.uniform(2.8, 4.0), w + (0.06 if f.chance(0.7) else 0.9)
    for y in np.arange(room.y0 + 1.3, room.y1 - 1.0, pitch).tolist():
        for x in np.arange(room.x0 + 1.2, room.x1 - 1.0, step).tolist():
            if f.chance(0.12):
                continue
            for side in (-1, 1):
                turn = 0.0 if side > 0 else math.pi
                if f.at(x, y + side * (d / 2 + 0.05), w, d, turn, desk):
                    chair = seat_place(x, y + side * (d / 2 + 0.05), turn, f.uniform(-0.2, 0.2), d / 2 + f.uniform(0.2, 0.6))
                    f.seat_at(*chair, turn + math.pi, partial(seats.any_chair, taste=0), 0.5, 0.12)
    storage_along(f, room.area / 25)


def meeting(f: Furnisher) -> None:
    """Furnish a meeting room."""
    wide, deep = f.room.x1 - f.room.x0, f.room.y1 - f.room.y0
    d = min(max(min(wide, deep) - f.uniform(1.8, 2.6), 1.0), 1.6)
    table_with_chairs(f, max(min(max(wide, deep) - 2.0, 5.0), 1.2), d, 0.74, int(f.rng.integers(2)), margin=0.3)
    board_on_wall(f)
    if f.chance(0.6):
        f.on_wall(1.6, 0.9, 2.0, fixtures.television)
    storage_along(f, 1.0)


def lab(f: Furnisher) -> None:
    """Furnish a laboratory: benches, instruments, shelves."""
    for _ in range(1 + f.count(f.room.area / 12)):
        w, d, h = f.uniform(1.6, 4.0), f.uniform(0.75, 1.6), f.uniform(0.75, 0.95)
        bench = partial(equipped_lab_bench, w=w, d=d, h=h, amount=0.3 + f.density)
        pose = f.free(w, d, bench, aligned=0.95, margin=0.5) if f.chance(0.6) else f.along_wall(w, d, h, bench)
        if pose is not None:
            for side in (-1, 1):
                chair = seat_place(*pose, f.uniform(-0.3, 0.3), side * (d / 2 + 0.35))
                taste = 2 if f.chance(0.6) else 0
                f.seat_at(*chair, pose[2] + (math.pi if side > 0 else 0.0), partial(seats.any_chair, taste=taste), 0.42, 0.08)
    for _ in range(f.count(f.room.area / 18)):
        w, d, h = f.uniform(0.4, 1.4), f.uniform(0.4, 1.0), f.uniform(0.6, 2.0)
        f.free(w, d, partial(clutter.machine, w=w, d=d, h=h))
    storage_along(f, f.room.area / 10)


def workshop(f: Furnisher) -> None:
    """Furnish a workshop or test hall: benches, machines, racks, robots, ladders."""
    area = f.room.area
    for _ in range(f.count(area / 14)):
        w, d, h = f.uniform(1.2, 2.8), f.uniform(0.6, 0.95), f.uniform(0.75, 1.0)
        bench = partial(equipped_workbench, w=w, d=d, h=h, amount=0.4 + f.density)
        if f.along_wall(w, d, h + 0.4, bench) is None:
            f.free(w, d, bench)
    for _ in range(f.count(area / 18)):
        w, d, h = f.uniform(0.5, 3.2), f.uniform(0.5, 2.0), f.uniform(0.7, 2.6)
        f.free(w, d, partial(clutter.machine, w=w, d=d, h=h), aligned=0.8)
    for _ in range(f.count(area / 45)):
        w, d, h = f.uniform(1.5, 6.0), f.uniform(0.5, 1.1), min(f.uniform(1.7, 3.5), f.room.height - 0.3)
        f.along_wall(w, d, h, partial(storage.rack, w=w, d=d, h=h, fill=f.density))
    for _ in range(f.count(area / 40)):
        f.free(0.9, 1.2, clutter.robot, aligned=0.2)
    for _ in range(f.count(area / 30)):
        f.free(0.5, 0.5, partial(seats.any_chair, taste=int(f.rng.integers(3))), aligned=0.0)
    for _ in range(f.count(area / 60)):
        f.free(0.8, 0.9, stairs.ladder, aligned=0.2)
    storage_along(f, area / 25)


def store(f: Furnisher) -> None:
    """Furnish a store room: racks in rows, cabinets, boxes."""
    room = f.room
    d, gap, h = f.uniform(0.45, 1.1), f.uniform(0.9, 2.2), min(f.uniform(1.8, 4.0), f.room.height - 0.25)
    if f.chance(0.7):
        for y in np.arange(room.y0 + d / 2 + 0.05, room.y1 - d / 2, d + gap).tolist():
            start, stop, w = room.x0 + f.uniform(0.2, 1.5), room.x1 - f.uniform(0.2, 1.5), f.uniform(1.5, 2.7)
            for x in np.arange(start + w / 2, stop - w / 2, w).tolist():
                f.at(x, y, w - 0.02, d, 0.0, partial(storage.rack, w=w, d=d, h=h, fill=f.density))
    storage_along(f, room.area / 6)
    for _ in range(f.count(room.area / 5)):
        w, deep = f.uniform(0.3, 1.2), f.uniform(0.3, 0.9)
        f.free(w, deep, partial(clutter.boxes, w=w, d=deep))


def copyroom(f: Furnisher) -> None:
    """Furnish a copy or utility room."""
    for _ in range(2):
        w, h = f.uniform(0.6, 1.3), f.uniform(0.9, 1.3)
        f.along_wall(w, 0.65, h, partial(storage.fridge, w=w, d=0.65, h=h))
    storage_along(f, f.room.area / 3.5)
