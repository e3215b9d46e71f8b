"""Rooms for many people: classrooms, lecture halls, libraries, lounges, canteens, halls, corridors, stairwells, garages."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from xkd_ros.worlds import clutter, fixtures, seats, stairs, storage, tables
from xkd_ros.worlds.furnisher import Furnisher
from xkd_ros.worlds.materials import Slot
from xkd_ros.worlds.placing import board_on_wall, desk_at_wall, rows_of_desks, storage_along, table_with_chairs

FLOOR, STAIRS, TABLE = 1, 6, 7


def classroom(f: Furnisher) -> None:
    """Furnish a classroom."""
    seated = float(f.rng.choice([0, 0, 0.1, 0.4]))
    rows_of_desks(f, int(f.rng.choice([1, 1, 0, 2])), f.uniform(1.25, 1.9), f.uniform(0.7, 1.8), f.uniform(0.45, 0.75), seated)
    board_on_wall(f)
    board_on_wall(f)
    storage_along(f, f.room.area / 25)
    if f.chance(0.6):
        desk_at_wall(f, 0)


def lecture(f: Furnisher) -> None:
    """Furnish a lecture hall with rows of seats, on rising tiers in higher rooms."""
    room = f.room
    pitch, rise = f.uniform(0.85, 1.2), f.uniform(0.0, 0.25) if room.height > 3.4 and room.area > 50 else 0.0
    wide = room.x1 - room.x0 - f.uniform(1.6, 3.0)
    count = int(wide / 0.56)
    if count < 3:
        classroom(f)
        return
    x = (room.x0 + room.x1) / 2
    for k, y in enumerate(np.arange(room.y0 + f.uniform(2.0, 3.5), room.y1 - 0.8, pitch).tolist()):
        z = k * rise
        if z + 2.0 > room.height:
            break
        if not f.space.fits(x, y, wide, pitch * 0.95, 0.0):
            continue
        f.space.take(x, y, wide, pitch * 0.9, 0.0)
        f.b.frame(x, y, 0, math.pi)
        if z > 0.02:
            f.b.box(0, 0, 0, wide + 0.2, pitch, z, FLOOR, Slot.FLOOR)
            for side in (-1, 1):
                f.b.box(side * (wide / 2 + 0.5), 0, 0, 0.8, pitch, z, STAIRS, Slot.STAIR)
                f.b.box(side * (wide / 2 + 0.5), -pitch / 4, z - rise / 2, 0.8, pitch / 2, rise / 2, STAIRS, Slot.STAIR)
        f.b.same_object(x, y, z, math.pi)
        seats.seat_row(f.b, f.rng, count, 0.56)
        if f.chance(0.7):
            f.b.box(0, 0.42, 0.7, wide, 0.28, 0.03, TABLE, Slot.TABLE_TOP)
    f.on_wall(2.0, 0.8, 2.4, partial(fixtures.board, w=2.0, h=1.4, z=0.9))
    desk_at_wall(f, 0)


def library(f: Furnisher) -> None:
    """Furnish a library: shelf rows, reading tables."""
    room = f.room
    h, gap, length = f.uniform(1.3, 2.3), f.uniform(0.9, 1.8), min(f.room.y1 - f.room.y0 - 2.0, 8.0)
    if length > 1.5:
        pieces = max(int(length), 1)
        w = length / pieces
        for x in np.arange(room.x0 + 0.9, room.x1 - 0.9, 0.55 + gap).tolist():
            if f.chance(0.15):
                continue
            build = partial(storage.shelf, w=w, d=0.5, h=h, fill=0.5 + 0.5 * min(f.density, 1.0), back=f.chance(0.5))
            for k in range(pieces):
                f.at(x, room.y0 + 1.0 + (k + 0.5) * w, w - 0.02, 0.5, math.pi / 2, build)
    for _ in range(f.count(room.area / 20)):
        table_with_chairs(f, f.uniform(1.2, 2.4), f.uniform(0.8, 1.2), 0.74, 1)
    storage_along(f, room.area / 12)


def lounge(f: Furnisher) -> None:
    """Furnish a lounge or waiting area: sofas, low tables, plants."""
    for _ in range(1 + f.count(f.room.area / 12)):
        w, d = f.uniform(0.75, 2.6), f.uniform(0.75, 1.0)
        if f.chance(0.6):
            f.along_wall(w, d, 0.9, partial(seats.sofa, w=w, d=d))
        else:
            f.free(w, d, partial(seats.sofa, w=w, d=d), aligned=0.7)
    for _ in range(f.count(f.room.area / 14)):
        w, d, h = f.uniform(0.5, 1.3), f.uniform(0.5, 0.8), f.uniform(0.35, 0.5)
        f.free(w, d, partial(tables.table, w=w, d=d, h=h))
    for _ in range(f.count(1.5)):
        f.free(0.6, 0.6, clutter.plant)
    storage_along(f, f.room.area / 18)


def canteen(f: Furnisher) -> None:
    """Furnish a canteen: tables with chairs or stools, a counter."""
    taste, round_ = int(f.rng.choice([1, 1, 2])), f.chance(0.4)
    for _ in range(2 + f.count(f.room.area / 6)):
        w = f.uniform(0.7, 1.3) if round_ else f.uniform(0.8, 2.4)
        table_with_chairs(f, w, w if round_ else f.uniform(0.65, 0.9), f.uniform(0.7, 1.05), taste, "pedestal" if round_ else "auto")
    w = f.uniform(2, 5)
    f.along_wall(w, 0.65, 1.0, partial(tables.counter, w=w, d=0.65, h=f.uniform(0.88, 1.1)))


def hall(f: Furnisher) -> None:
    """Furnish a hall, lobby or gym: stairs, seats, a counter, a stage, plants."""
    room = f.room
    if f.chance(0.6) and room.height > 2.7:
        w, long = f.uniform(1.1, 2.6), f.uniform(3.0, 7.0)
        f.free(w, long, partial(stairs.straight_stair, width=w, length=long, height=room.height), aligned=1.0)
    for _ in range(f.count(room.area / 35)):
        w = f.uniform(1.0, 2.4)
        f.free(w, 0.5, partial(seats.bench, w=w, d=0.45))
    for _ in range(f.count(room.area / 45)):
        w, d = f.uniform(0.8, 2.4), f.uniform(0.75, 1.0)
        f.free(w, d, partial(seats.sofa, w=w, d=d))
    for _ in range(f.count(room.area / 50)):
        table_with_chairs(f, f.uniform(0.7, 1.8), f.uniform(0.7, 1.0), 0.75, 1)
    if f.chance(0.4):
        w = f.uniform(1.8, 5.0)
        f.free(w, 0.7, partial(tables.counter, w=w, d=0.7, h=f.uniform(0.9, 1.15)))
    if f.chance(0.3):
        w, d, h = f.uniform(2, 6), f.uniform(1.5, 4), f.uniform(0.15, 0.9)
        f.along_wall(w, d, h, partial(stairs.stage, w=w, d=d, h=h), gap=0.0)
    for _ in range(f.count(room.area / 40)):
        f.free(0.6, 0.6, clutter.plant)


def garage(f: Furnisher) -> None:
    """Furnish a car park or basement: cars, bicycles, pallets."""
    for _ in range(f.count(f.room.area / 45)):
        f.free(4.8, 1.9, clutter.car, aligned=0.95, margin=0.4)
    for _ in range(f.count(4)):
        f.free(1.8, 0.6, clutter.bicycle, aligned=0.6)
    for _ in range(f.count(f.room.area / 50)):
        f.free(1.2, 1.0, partial(clutter.boxes, w=1.2, d=0.9))


def corridor(f: Furnisher) -> None:
    """Furnish a corridor: lockers, benches, chairs, notice boards."""
    area = f.room.area
    for _ in range(f.count(area / 22)):
        w, h = f.uniform(0.6, 3.0), f.uniform(0.8, 2.1)
        f.along_wall(w, 0.42, h, partial(storage.cabinet, w=w, d=0.4, h=h))
    for _ in range(f.count(area / 40)):
        w = f.uniform(1.0, 2.0)
        f.along_wall(w, 0.45, 0.9, partial(seats.bench, w=w, d=0.42))
    for _ in range(f.count(area / 40)):
        f.along_wall(0.5, 0.5, 1.0, partial(seats.any_chair, taste=1))
    for _ in range(f.count(area / 18)):
        board_on_wall(f)


def stairwell(f: Furnisher) -> None:
    """Add little: the flights are built with the walls."""
    if f.chance(0.3):
        f.free(0.6, 0.6, clutter.plant)
