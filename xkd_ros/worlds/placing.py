"""Groups of furniture that many rooms share: a desk at a wall, a table with chairs, rows of desks, shelves along walls, boards."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from xkd_ros.worlds import fixtures, seats, storage
from xkd_ros.worlds.equipped import equipped_table, seat_place
from xkd_ros.worlds.furnisher import Furnisher


def desk_at_wall(f: Furnisher, taste: int) -> None:
    """Put a desk with a chair (taste: kind of chair) against a wall."""
    w, d, h = f.uniform(1.1, 1.9), f.uniform(0.6, 0.85), f.uniform(0.7, 0.78)
    pose = f.along_wall(w, d, h, partial(equipped_table, w=w, d=d, h=h, amount=f.density, screens=0.9, drawers=0.4))
    if pose is not None:
        x, y = seat_place(*pose, 0.0, d / 2 + f.uniform(0.2, 0.7))
        f.seat_at(x, y, pose[2] + math.pi, partial(seats.any_chair, taste=taste), occupied=0.15)


def table_with_chairs(f: Furnisher, w: float, d: float, h: float, taste: int, kind: str = "auto", margin: float = 0.9) -> None:
    """Put a table in the room and chairs around it."""
    screens = 1.0 if f.chance(0.15) else 0.0
    pose = f.free(
        w, d, partial(equipped_table, w=w, d=d, h=h, amount=f.density * 0.4, screens=screens, kind=kind), aligned=0.85, margin=margin
    )
    if pose is None:
        return
    spots: list[tuple[float, float, float]] = []
    if kind == "pedestal":
        count = int(f.rng.integers(2, 6))
        turns = [k * 2 * math.pi / count for k in range(count)]
        spots = [((w / 2 + 0.22) * math.cos(a), (w / 2 + 0.22) * math.sin(a), a + math.pi / 2) for a in turns]
    else:
        for k in range(max(int(w / 0.7), 1)):
            along = -w / 2 + 0.35 + 0.7 * k
            spots += [(along, d / 2 + f.uniform(0.18, 0.45), math.pi), (along, -d / 2 - f.uniform(0.18, 0.45), 0.0)]
    for along, ahead, turn in spots:
        if f.chance(0.85):
            f.seat_at(*seat_place(*pose, along, ahead), pose[2] + turn, partial(seats.any_chair, taste=taste), 0.45, 0.1)


def storage_along(f: Furnisher, mean: float) -> None:
    """Put cabinets and shelves against the walls."""
    for _ in range(f.count(mean)):
        h = f.uniform(0.7, 2.3)
        if f.chance(0.45):
            w, d = f.uniform(0.5, 2.2), f.uniform(0.35, 0.65)
            f.along_wall(w, d, h, partial(storage.cabinet, w=w, d=d, h=h))
        else:
            w, d = f.uniform(0.6, 2.0), f.uniform(0.25, 0.45)
            f.along_wall(w, d, h, partial(storage.shelf, w=w, d=d, h=h, fill=0.4 + 0.6 * f.density))


def rows_of_desks(f: Furnisher, taste: int, pitch: float, w: float, d: float, seated: float) -> None:
    """Put desks with chairs in rows that look at one wall.

    Args:
        f: Places things in the room.
        taste: Kind of chair.
        pitch: Distance of the rows.
        w: Width of a desk.
        d: Depth of a desk.
        seated: Share of chairs with somebody on them.
    """
    room = f.room
    along_x, facing = f.chance(0.5), 1 if f.chance(0.5) else -1
    (u0, u1), (v0, v1) = ((room.x0, room.x1), (room.y0, room.y1)) if along_x else ((room.y0, room.y1), (room.x0, room.x1))
    h, kind = f.uniform(0.68, 0.78), str(f.rng.choice(["legs", "panels", "t_frame"]))
    aisle, step, front = f.uniform(0.0, 1.0), w + (0.0 if f.chance(0.4) else f.uniform(0.1, 0.8)), f.uniform(0.3, 2.0)
    desk = partial(equipped_table, w=w, d=d, h=h, amount=0.15 * f.density, screens=0.85 if f.chance(0.3) else 0.0, kind=kind)
    places = max(int(w / 0.65), 1)
    for v in np.arange(v0 + 1.0, v1 - 0.7, pitch).tolist():
        if (facing > 0 and v > v1 - front) or (facing < 0 and v < v0 + front):
            continue
        for column, u in enumerate(np.arange(u0 + 0.5 + w / 2, u1 - w / 2 - 0.3, step).tolist()):
            if f.chance(0.06):
                continue
            across = u + (aisle if column >= 2 else 0.0) + float(f.rng.normal(0, 0.04))
            x, y = (across, v) if along_x else (v, across)
            turn = (0.0 if along_x else -math.pi / 2) + (0.0 if facing > 0 else math.pi) + float(f.rng.normal(0, 0.03))
            if f.at(x, y, w, d, turn, desk):
                for place in range(places):
                    chair = seat_place(x, y, turn, (place - (places - 1) / 2) * 0.65, -(d / 2 + f.uniform(0.18, 0.45)))
                    f.seat_at(*chair, turn, partial(seats.any_chair, taste=taste), 0.45, seated)


def board_on_wall(f: Furnisher) -> None:
    """Hang a whiteboard, blackboard or notice board."""
    w, h, z = f.uniform(1.2, 4.5), f.uniform(0.9, 1.8), f.uniform(0.6, 1.1)
    f.on_wall(w, z - 0.05, z + h, partial(fixtures.board, w=w, h=h, z=z))
