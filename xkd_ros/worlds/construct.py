"""Puts a building together: plan, walls, openings, ceilings, columns, stairs, furniture, people, surroundings."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from xkd_ros.worlds import stairs, storage
from xkd_ros.worlds.building import Building, Room
from xkd_ros.worlds.ceilings import add_column, build_ceiling
from xkd_ros.worlds.connect import Connector
from xkd_ros.worlds.furnisher import Furnisher
from xkd_ros.worlds.layout import PLANS, make_plan
from xkd_ros.worlds.materials import Slot, make_materials
from xkd_ros.worlds.mesh import MeshBuilder
from xkd_ros.worlds.outside import build_outside
from xkd_ros.worlds.people import Person, make_person
from xkd_ros.worlds.relief import build_relief
from xkd_ros.worlds.rooms import furnish
from xkd_ros.worlds.shell import NORMALS, OUT_YAW, RoomShell, build_floor, build_walls, inside, make_shell, outline
from xkd_ros.worlds.space import CELL_M, Space


def construct(seed: int, style: str = "auto") -> Building:
    """Make the building of a seed; see `building.make_building`."""
    rng = np.random.default_rng([seed, 7919])
    shifted = style.startswith("shifted")
    plan = make_plan(rng, style if style in PLANS else "auto", shifted)
    materials = make_materials(rng, 1.8 if shifted else 1.0)
    b = MeshBuilder()
    people: list[Person] = []
    rooms = [make_shell(cell, plan.wall_m) for cell in plan.cells]
    low = np.min([(r.x0, r.y0) for r in rooms], axis=0)
    high = np.max([(r.x1, r.y1) for r in rooms], axis=0)
    space = Space(low, high)
    _open_floors(rooms, space)
    taste = float(rng.choice([0.05, 0.3, 0.6, 1.0, 1.5], p=[0.08, 0.2, 0.32, 0.28, 0.12]))
    for room in rooms:
        room.density = float(np.clip(taste * rng.uniform(0.4, 1.6), 0, 1.6)) * (0.0 if rng.uniform() < 0.05 else 1.0)
    connector = Connector(b, rng, plan, rooms, space, materials)
    connector.run()
    skirting = float(rng.choice([0.0, 0.06, 0.1]))
    floors = [Slot.FLOOR, Slot.FLOOR_B]
    for room in rooms:
        _columns(b, rng, room, space)
        _shafts(b, rng, room, space)
        _fixed_stairs(b, rng, room, space)
        tastes = [int(Slot.WALL if rng.uniform() < 0.8 else Slot.WALL_B) for _ in range(4)]
        if room.kind in ("toilet", "kitchen", "stairwell"):
            tastes = [int(Slot.WALL_C)] * 4
        build_walls(b, room, tastes, skirting)
        build_relief(b, rng, room)
        build_floor(b, room, int(floors[int(rng.uniform() < 0.3)]))
        build_ceiling(b, rng, room)
        _under_windows(b, rng, room, space)
        _rugs(b, rng, room)
        furnish(Furnisher(b, rng, room, space, people, 0.18 if shifted else 0.06))
    build_outside(b, rng, *low, *high)
    mesh = b.build()
    _stand_people(rng, space, people)
    return Building(
        vertices=mesh.vertices,
        faces=mesh.faces,
        face_class=mesh.face_class,
        face_material=mesh.face_material,
        face_object=mesh.face_object,
        materials=materials,
        rooms=tuple(Room(r.kind, outline(r), r.height, r.cell.ceiling) for r in rooms),
        doors=tuple(connector.doors),
        window_cues=np.array(connector.window_cues, bool),
        people=tuple(people),
        free=space.floor,
        free_origin_m=space.origin,
        free_cell_m=CELL_M,
        seed=seed,
        style=f"shifted-{plan.name}" if shifted else plan.name,
    )


def _open_floors(rooms: list[RoomShell], space: Space) -> None:
    for room in rooms:
        space.add_room(room.x0, room.y0, room.x1, room.y1)
        if not room.cell.cuts:
            continue
        rows, cols = space._window(room.x0, room.y0, room.x1, room.y1)
        ys = space.origin[1] + (np.arange(rows.start, rows.stop) + 0.5) * CELL_M
        xs = space.origin[0] + (np.arange(cols.start, cols.stop) + 0.5) * CELL_M
        within = inside(room, *np.meshgrid(xs, ys))
        shape = space.floor[rows, cols].shape
        space.floor[rows, cols] &= within[: shape[0], : shape[1]]
        space.open[rows, cols] &= within[: shape[0], : shape[1]]


def _columns(b: MeshBuilder, rng: np.random.Generator, room: RoomShell, space: Space) -> None:
    """Add a grid of free columns to large rooms and engaged columns along walls."""
    wide, round_ = float(rng.uniform(0.2, 0.75)), bool(rng.uniform() < 0.4)
    large = room.area > 45
    if room.kind == "garage" or (large and rng.uniform() < 0.42) or rng.uniform() < 0.05:
        step_x, step_y = float(rng.uniform(3.5, 8)), float(rng.uniform(3.5, 8))
        ox, oy = float(rng.uniform(0.4, 0.6)) * step_x, float(rng.uniform(0.4, 0.6)) * step_y
        for x in np.arange(room.x0 + ox, room.x1 - wide, step_x).tolist():
            for y in np.arange(room.y0 + oy, room.y1 - wide, step_y).tolist():
                if space.fits(x, y, wide, wide, 0.0):
                    space.take(x, y, wide, wide, 0.0)
                    add_column(b, rng, x, y, room.height, wide, round_)
    if rng.uniform() < 0.22:
        out, width = float(rng.uniform(0.06, 0.4)), float(rng.uniform(0.25, 0.8))
        step = float(rng.uniform(2.5, 6))
        for edge in range(4):
            if rng.uniform() < 0.4:
                continue
            first, last = room.free_range[edge]
            for along in np.arange(first + step / 2, last - width, step).tolist():
                a, c = along - width / 2, along + width / 2
                if not room.wall_free(edge, a, c, 0.0, room.height):
                    continue
                x, y = room.point(edge, along)
                nx, ny = NORMALS[edge]
                x, y = x - nx * out / 2, y - ny * out / 2
                b.frame(x, y, 0, OUT_YAW[edge])
                b.box(0, 0, 0, width, out, room.height, 5, Slot.COLUMN)
                room.taken[edge].append((a, c, 0.0, room.height))
                size = (width, out + 0.05) if edge % 2 == 0 else (out + 0.05, width)
                space.take(x, y, *size, 0.0)


def _shafts(b: MeshBuilder, rng: np.random.Generator, room: RoomShell, space: Space) -> None:
    """Add boxed-in shafts, pilasters and ledges that make a wall step in and out (class wall)."""
    for _ in range(int(rng.poisson(0.5 + room.area / 80))):
        edge, width, out = int(rng.integers(4)), float(rng.uniform(0.25, 2.0)), float(rng.uniform(0.08, 0.7))
        first, last = room.free_range[edge]
        if last - first < width + 0.4 or room.kind == "corridor":
            continue
        along = float(rng.choice([rng.uniform(first + width / 2, last - width / 2), first + width / 2, last - width / 2]))
        low, top = (0.0, room.height) if rng.uniform() < 0.75 else (0.0, float(rng.uniform(0.3, 1.3)))
        x, y = room.point(edge, along)
        nx, ny = NORMALS[edge]
        x, y = x - nx * out / 2, y - ny * out / 2
        size = (width, out) if edge % 2 == 0 else (out, width)
        if room.wall_free(edge, along - width / 2, along + width / 2, low, room.height) and space.fits(
            x, y, size[0] - 0.1, size[1] - 0.1, 0.0
        ):
            b.frame(x, y, 0, OUT_YAW[edge])
            b.box(0, 0, low, width, out, top - low, 0, Slot.WALL)
            room.taken[edge].append((along - width / 2, along + width / 2, low, room.height))
            space.take(x, y, *size, 0.0)


def _fixed_stairs(b: MeshBuilder, rng: np.random.Generator, room: RoomShell, space: Space) -> None:
    """Build the flights of a stairwell; elsewhere a few free steps now and then."""
    wide, deep = room.x1 - room.x0, room.y1 - room.y0
    if room.kind == "stairwell" and wide > 1.9 and deep > 3.4:
        if room.cell.ceiling != "none":
            room.cell.height_m = max(room.height, float(rng.uniform(2.9, 6.5)))
        w, d = min(wide, float(rng.uniform(2.2, 3.4))), min(deep, float(rng.uniform(3.6, 5.2)))
        well = stairs.plan_well(rng, w, d, room.height)
        down = rng.uniform() < 0.5 and not room.cell.cuts
        # the upper right corner of the room may have a hole in the floor; else anywhere along the upper or, turned round, the lower wall
        places = [(room.x1 - w / 2, room.y1 - d / 2, 0.0), (room.x0 + w / 2, room.y0 + d / 2, math.pi)]
        for _ in range(6):
            x, up = float(rng.uniform(room.x0 + w / 2, room.x1 - w / 2)), bool(rng.uniform() < 0.5)
            places.append((x, room.y1 - d / 2 if up else room.y0 + d / 2, 0.0 if up else math.pi))
        for number, (x, y, yaw) in enumerate(places):
            if space.fits(x, y, w - 0.1, d - 0.1, 0.0):
                b.frame(x, y, 0.0, yaw)
                stairs.stairwell(b, rng, well, room.height, bool(down and number == 0))
                space.take(x, y, w, d, 0.0)
                if down and number == 0:
                    room.hole = (x, y + well.start, room.x1, room.y1)
                return
    elif room.area > 18 and rng.uniform() < 0.12:
        w, n = float(rng.uniform(1.0, 3.0)), int(rng.integers(2, 5))
        Furnisher(b, rng, room, space, []).free(w, n * 0.32, partial(stairs.few_steps, width=w, steps=n), aligned=1.0)


def _under_windows(b: MeshBuilder, rng: np.random.Generator, room: RoomShell, space: Space) -> None:
    """Put radiators below windows."""
    if rng.uniform() < 0.5:
        return
    for edge in range(4):
        for o in room.openings[edge]:
            if not 0.6 < o.z0 < 1.3 or o.high - o.low < 0.6 or rng.uniform() < 0.3:
                continue
            along, w = (o.low + o.high) / 2, (o.high - o.low) * float(rng.uniform(0.6, 1.0))
            x, y = room.point(edge, along)
            nx, ny = NORMALS[edge]
            x, y, yaw = x - nx * 0.08, y - ny * 0.08, OUT_YAW[edge] + math.pi
            if space.fits(x - nx * 0.05, y - ny * 0.05, w, 0.1, yaw):
                space.take(x, y, w, 0.14, yaw)
                b.frame(x, y, 0, yaw)
                storage.radiator(b, rng, w, min(float(rng.uniform(0.3, 0.6)), o.z0 - 0.2))


def _rugs(b: MeshBuilder, rng: np.random.Generator, room: RoomShell) -> None:
    if rng.uniform() < 0.25:
        w, d = float(rng.uniform(1, 3)), float(rng.uniform(1, 3))
        if room.x1 - room.x0 > w + 0.4 and room.y1 - room.y0 > d + 0.4 and room.hole is None and not room.cell.cuts:
            b.frame(float(rng.uniform(room.x0 + w / 2, room.x1 - w / 2)), float(rng.uniform(room.y0 + d / 2, room.y1 - d / 2)))
            b.box(0, 0, 0.001, w, d, float(rng.uniform(0.004, 0.02)), 1, Slot.RUG)


def _stand_people(rng: np.random.Generator, space: Space, people: list[Person]) -> None:
    """Add standing and walking people, alone and in groups."""
    cells = np.argwhere(space.floor)
    if not len(cells):
        return
    for _ in range(int(rng.poisson(min(len(cells) * CELL_M**2 / 60, 5.0)))):
        row, col = cells[int(rng.integers(len(cells)))]
        x, y = space.origin + (np.array([col, row]) + 0.5) * CELL_M
        group = 1 if rng.uniform() < 0.7 else int(rng.integers(2, 5))
        start = float(rng.uniform(0, 6.28))
        for k in range(group):
            a = start + k * 2 * math.pi / max(group, 1)
            px, py = (float(x), float(y)) if group == 1 else (float(x) + 0.65 * math.cos(a), float(y) + 0.65 * math.sin(a))
            cell = np.floor((np.array([py, px]) - space.origin[::-1]) / CELL_M).astype(int)
            if (cell >= 0).all() and (cell < space.floor.shape).all() and space.floor[tuple(cell)]:
                yaw = float(rng.uniform(0, 6.28)) if group == 1 else a + math.pi
                people.append(make_person(rng, px, py, yaw, None if group == 1 else "standing"))
