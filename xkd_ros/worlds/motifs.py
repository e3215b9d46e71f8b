"""Pictures that are stretched over one object: door leaves, posters, signs, screens, book spines, cabinet fronts.

Like the patterns they come in three disjoint families. A motif multiplies the colour of its surface where it is grey, and brings its
own colours where it is not. Comes in: a random generator and a family index. Goes out: (SIZE, SIZE, 3) float32, row 0 at the top.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import numpy as np

from xkd_ros.worlds.patterns import PATTERNS, SIZE, noise

Motif = Callable[[np.random.Generator, int], np.ndarray]
_DARK, _STEEL = (0.12, 0.12, 0.13), (0.75, 0.76, 0.78)


class Canvas:
    """A picture drawn with shapes whose coordinates run from 0 to 1, (0, 0) at the top left."""

    def __init__(self, tone: float | tuple[float, float, float] = 1.0) -> None:
        self.picture = np.empty((SIZE, SIZE, 3), np.float32)
        self.picture[:] = tone

    def rectangle(self, x0: float, y0: float, x1: float, y1: float, colour: tuple[float, ...] | float) -> None:
        """Fill a rectangle."""
        rows = slice(max(round(y0 * SIZE), 0), max(round(y1 * SIZE), round(y0 * SIZE) + 1))
        columns = slice(max(round(x0 * SIZE), 0), max(round(x1 * SIZE), round(x0 * SIZE) + 1))
        self.picture[rows, columns] = colour

    def frame(self, x0: float, y0: float, x1: float, y1: float, colour: tuple[float, ...] | float, line: float = 0.012) -> None:
        """Draw the outline of a rectangle."""
        for a, b, c, d in ((x0, y0, x1, y0 + line), (x0, y1 - line, x1, y1), (x0, y0, x0 + line, y1), (x1 - line, y0, x1, y1)):
            self.rectangle(a, b, c, d, colour)

    def disc(self, x: float, y: float, rx: float, ry: float, colour: tuple[float, ...] | float) -> None:
        """Fill an ellipse."""
        rows, columns = np.mgrid[0:SIZE, 0:SIZE] / SIZE
        self.picture[((columns - x) / rx) ** 2 + ((rows - y) / ry) ** 2 < 1] = colour

    def shade(self, field: np.ndarray) -> None:
        """Multiply by a grey field."""
        self.picture *= field[..., None]


def _colour(rng: np.random.Generator, low: float = 0.25, high: float = 0.9, saturation: float = 0.8) -> tuple[float, float, float]:
    return colorsys.hsv_to_rgb(float(rng.uniform()), saturation * float(rng.uniform(0.3, 1)), float(rng.uniform(low, high)))


def _bevelled(c: Canvas, x0: float, y0: float, x1: float, y1: float) -> None:
    c.frame(x0, y0, x1, y1, 0.55, 0.016)
    c.frame(x0 + 0.016, y0 + 0.01, x1 - 0.016, y1 - 0.01, 1.1, 0.01)


def _six_panels(c: Canvas) -> None:
    for y0, y1 in ((0.06, 0.24), (0.3, 0.58), (0.68, 0.94)):
        for x0, x1 in ((0.12, 0.46), (0.54, 0.88)):
            _bevelled(c, x0, y0, x1, y1)


def _louvre(c: Canvas) -> None:
    for y in np.arange(0.62, 0.9, 0.03).tolist():
        c.rectangle(0.15, y, 0.85, y + 0.014, 0.45)


def _two_panels(c: Canvas) -> None:
    _bevelled(c, 0.15, 0.06, 0.85, 0.46)
    _bevelled(c, 0.15, 0.58, 0.85, 0.93)


def _kick_plate(c: Canvas) -> None:
    c.rectangle(0.03, 0.86, 0.97, 0.98, _STEEL)
    c.frame(0.03, 0.86, 0.97, 0.98, 0.5, 0.006)


def _grooves(c: Canvas) -> None:
    for y in (0.2, 0.4, 0.6, 0.8):
        c.rectangle(0.02, y, 0.98, y + 0.012, 0.5)


def _push_plate(c: Canvas) -> None:
    c.rectangle(0.8, 0.36, 0.93, 0.56, _STEEL)
    c.frame(0.8, 0.36, 0.93, 0.56, 0.5, 0.006)


_LEAVES: tuple[tuple[Callable[[Canvas], None] | None, ...], ...] = (
    (_six_panels, _louvre),
    (None, _two_panels, _kick_plate),
    (_grooves, _push_plate, None),
)


def door_leaf(rng: np.random.Generator, family: int) -> np.ndarray:
    """Draw a door leaf: grain or paint, gap all around, panels or plates, lock and a name plate."""
    looks = _LEAVES[family]
    c = Canvas(0.97)
    grained = rng.uniform() < 0.5
    surface = ("wood" if family == 2 else "metal") if grained and family else "plain"
    base = PATTERNS[surface][1][family](rng)[..., 0]
    c.shade(np.rot90(base) if surface == "wood" else base)
    draw = looks[int(rng.integers(len(looks)))]
    if draw is not None:
        draw(c)
    c.disc(0.07, 0.51, 0.025, 0.014, _DARK)
    c.disc(0.93, 0.51, 0.025, 0.014, _DARK)
    if rng.uniform() < 0.75:
        plate = _colour(rng, 0.3, 0.95) if rng.uniform() < 0.5 else (0.95, 0.95, 0.95)
        x, y, wide, high = ((0.35, 0.2, 0.3, 0.05), (0.38, 0.24, 0.24, 0.07), (0.3, 0.27, 0.22, 0.1))[family]
        c.rectangle(x, y, x + wide, y + high, plate)
        for k in range(2):
            c.rectangle(x + 0.03, y + 0.012 + 0.02 * k, x + wide - 0.05 - 0.05 * k, y + 0.02 + 0.02 * k, _DARK)
    c.frame(0.0, 0.0, 1.0, 1.0, 0.22, 0.014)
    return c.picture


def poster(rng: np.random.Generator, family: int) -> np.ndarray:
    """Draw a poster: text columns, a framed landscape, or shapes."""
    c = Canvas(_colour(rng, 0.8, 1.0, 0.25))
    if family == 0:
        for _ in range(int(rng.integers(2, 5))):
            x, y, rx, ry = rng.uniform([0.2, 0.2, 0.08, 0.08], [0.8, 0.8, 0.3, 0.3]).tolist()
            c.disc(x, y, rx, ry, _colour(rng))
        c.rectangle(0.1, 0.85, 0.9, 0.92, _DARK)
    elif family == 1:
        c.rectangle(0.05, 0.05, 0.95, 0.2, _colour(rng))
        for k in range(2):
            for line in np.arange(0.27, 0.6 + 0.3 * k, 0.035).tolist():
                c.rectangle(0.08 + 0.45 * k, line, 0.42 + 0.45 * k + float(rng.uniform(0, 0.05)), line + 0.012, 0.25)
        c.rectangle(0.08, 0.66, 0.46, 0.92, _colour(rng))
    else:
        horizon = float(rng.uniform(0.4, 0.7))
        c.rectangle(0.0, 0.0, 1.0, horizon, _colour(rng, 0.6, 1.0, 0.5))
        c.rectangle(0.0, horizon, 1.0, 1.0, _colour(rng, 0.2, 0.5))
        c.shade(1 + 0.15 * noise(rng, 1.6))
        c.frame(0.0, 0.0, 1.0, 1.0, _colour(rng, 0.1, 0.9, 0.2), 0.07)
    c.frame(0.0, 0.0, 1.0, 1.0, 0.3, 0.01)
    return np.clip(c.picture, 0, 1)


def sign(rng: np.random.Generator, family: int) -> np.ndarray:
    """Draw a sign: arrow, figure or lettering, white on the sign's colour."""
    c = Canvas(0.9)
    white = (1.6, 1.6, 1.6)
    if family == 0:
        c.rectangle(0.2, 0.42, 0.6, 0.58, white)
        for k in range(24):
            c.rectangle(0.6 + k * 0.01, 0.25 + k * 0.0105, 0.61 + k * 0.01, 0.75 - k * 0.0105, white)
    elif family == 1:
        c.disc(0.35, 0.25, 0.08, 0.09, white)
        c.rectangle(0.3, 0.35, 0.42, 0.65, white)
        c.rectangle(0.22, 0.62, 0.34, 0.85, white)
        c.rectangle(0.4, 0.6, 0.5, 0.8, white)
        c.frame(0.6, 0.2, 0.9, 0.85, white, 0.04)
    else:
        for k in range(5):
            c.rectangle(0.1 + 0.17 * k, 0.3, 0.2 + 0.17 * k, 0.7, white)
            c.rectangle(0.13 + 0.17 * k, 0.4, 0.17 + 0.17 * k, float(rng.uniform(0.45, 0.65)), 0.9)
    return np.clip(c.picture, 0, 1.15)


def screen(rng: np.random.Generator, family: int) -> np.ndarray:
    """Draw a lit or dark monitor with its bezel."""
    c = Canvas(0.35)
    if rng.uniform() < 0.65:
        c = Canvas(_colour(rng, 0.5, 1.0, 0.6))
        if family == 0:
            c.shade(np.linspace(0.5, 1.1, SIZE, dtype=np.float32)[:, None] * np.ones((1, SIZE), np.float32))
        elif family == 1:
            c.rectangle(0, 0, 1, 1, (0.08, 0.09, 0.12))
            for line in np.arange(0.1, 0.9, 0.055).tolist():
                c.rectangle(0.08, line, float(rng.uniform(0.2, 0.85)), line + 0.02, _colour(rng, 0.6, 1.0, 0.5))
        else:
            c.rectangle(0, 0, 1, 1, (0.92, 0.93, 0.95))
            for k in range(6):
                c.rectangle(0.1 + 0.14 * k, float(rng.uniform(0.2, 0.75)), 0.19 + 0.14 * k, 0.85, _colour(rng))
    c.frame(0, 0, 1, 1, 0.03, 0.04)
    return np.clip(c.picture, 0, 1)


def books(rng: np.random.Generator, family: int) -> np.ndarray:
    """Draw a row of spines of several colours."""
    c = Canvas(0.2)
    x = 0.0
    while x < 1:
        wide = float(rng.uniform(0.025, (0.05, 0.08, 0.11)[family]))
        top = float(rng.uniform(0.0, (0.3, 0.15, 0.05)[family]))
        c.rectangle(x, top, min(x + wide - 0.006, 1.0), 1.0, _colour(rng, 0.25, 0.95, (0.5, 0.8, 0.95)[family]))
        if wide > 0.04:
            c.rectangle(x + 0.01, top + 0.15, x + wide - 0.016, top + 0.25, 0.85)
        x += wide
    return c.picture


def cabinet(rng: np.random.Generator, family: int) -> np.ndarray:
    """Draw a cabinet front: doors or drawers with handles."""
    c = Canvas(0.96)
    c.shade(PATTERNS["plain"][1][family](rng)[..., 0])
    if family == 0:
        for k in range(3):
            c.frame(0, k / 3, 1, (k + 1) / 3, 0.4, 0.01)
            c.rectangle(0.4, k / 3 + 0.06, 0.6, k / 3 + 0.08, _DARK)
    elif family == 1:
        c.frame(0, 0, 0.5, 1, 0.35, 0.01)
        c.frame(0.5, 0, 1, 1, 0.35, 0.01)
        c.rectangle(0.44, 0.45, 0.465, 0.6, _STEEL)
        c.rectangle(0.535, 0.45, 0.56, 0.6, _STEEL)
    else:
        for k in range(4):
            c.frame(0, k / 4, 1, (k + 1) / 4, 0.4, 0.008)
            c.disc(0.5, k / 4 + 0.12, 0.02, 0.02, _DARK)
            c.frame(0.4, k / 4 + 0.04, 0.6, k / 4 + 0.08, 0.5, 0.006)
    return c.picture


def blind(rng: np.random.Generator, family: int) -> np.ndarray:
    """Draw a blind: horizontal slats, vertical slats or a roller cloth."""
    rows, columns = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    field = (0.75 + 0.25 * (columns * 12 % 1), 0.7 + 0.3 * (rows * 32 % 1), 0.95 - 0.06 * rows)[family]
    return np.repeat(field[..., None], 3, axis=2).astype(np.float32)


def carton(rng: np.random.Generator, family: int) -> np.ndarray:
    """Draw a cardboard box: tape and a label."""
    c = Canvas(0.95)
    c.shade(1 + 0.03 * noise(rng, 0.6, (0.2, 2.0)))
    c.rectangle((0.44, 0.0, 0.46)[family], (0.0, 0.46, 0.0)[family], (0.56, 1.0, 0.52)[family], (1.0, 0.54, 1.0)[family], (1.1, 1.0, 0.8))
    x, y = ((0.1, 0.6), (0.6, 0.65), (0.1, 0.15))[family]
    c.rectangle(x, y, x + 0.25, y + 0.2, 1.15)
    c.frame(0, 0, 1, 1, 0.7, 0.01)
    return c.picture


MOTIFS: dict[str, tuple[int, Motif]] = {
    "door": (3, door_leaf),
    "poster": (3, poster),
    "sign": (2, sign),
    "screen": (3, screen),
    "books": (2, books),
    "cabinet": (2, cabinet),
    "blind": (1, blind),
    "carton": (1, carton),
}
"""Kind of object -> (number of different pictures per building, drawing function)."""
