"""Endless surface patterns for the camera: paint, brick, planks, carpet, tiles ... in three disjoint families.

A pattern is a tileable picture (SIZE, SIZE, 3) float32, about 0..1, that multiplies the colour of a surface.
Comes in: a random generator. Goes out: pictures for `textures.TextureAtlas`. Row 0 is the top of a wall.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

SIZE = 256
FAMILIES = ("teach2d", "train", "test")
"""Texture families: to teach the 2D teacher, for training buildings, for validation and test buildings."""

Pattern = Callable[[np.random.Generator], np.ndarray]


def noise(rng: np.random.Generator, power: float, stretch: tuple[float, float] = (1.0, 1.0)) -> np.ndarray:
    """Make tileable noise with spectrum 1/f^power; `stretch` lengthens it along (columns, rows). Zero mean, unit spread."""
    fx = np.fft.fftfreq(SIZE)[None, :] * stretch[0]
    fy = np.fft.fftfreq(SIZE)[:, None] * stretch[1]
    frequency = np.hypot(fx, fy)
    frequency[0, 0] = np.inf
    field = np.fft.ifft2(np.fft.fft2(rng.standard_normal((SIZE, SIZE))) * np.maximum(frequency, 0.5 / SIZE) ** -power).real
    return ((field - field.mean()) / field.std()).astype(np.float32)


def _grey(field: np.ndarray) -> np.ndarray:
    return np.repeat(np.clip(field, 0, 1.15)[..., None], 3, axis=2).astype(np.float32)


def _pixels() -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.mgrid[0:SIZE, 0:SIZE]
    return columns, rows


def _cells(rng: np.random.Generator, wide: int, high: int, shift: float, gap: int, tone: float, gap_tone: float) -> np.ndarray:
    """Blocks of wide x high pixels, every other row shifted by a share of the width, with joints and a tone per block."""
    x, y = _pixels()
    row = y // high
    x = (x + (row % 2) * int(shift * wide)) % SIZE
    column = x // wide
    tones = 1 + tone * rng.uniform(-1, 1, (SIZE // high + 1, SIZE // wide + 1))
    joint = (x % wide < gap) | (y % high < gap)
    return np.where(joint, gap_tone, 0.9 * tones[row, column]).astype(np.float32)


def _blend(picture: np.ndarray, colour: tuple[float, float, float], where: np.ndarray) -> np.ndarray:
    """Tint a picture by a colour where a mask (0..1) says so."""
    return picture * (1 + where[..., None] * (np.asarray(colour, np.float32) - 1))


def _roller(rng: np.random.Generator) -> np.ndarray:
    return _grey(0.93 + 0.02 * noise(rng, 0.6) + 0.012 * noise(rng, 1.5))


def _stipple(rng: np.random.Generator) -> np.ndarray:
    return _grey(0.92 + 0.035 * noise(rng, 0.1) + 0.015 * noise(rng, 1.2))


def _streaks(rng: np.random.Generator) -> np.ndarray:
    return _grey(0.93 + 0.018 * noise(rng, 0.8, (0.2, 8.0)) + 0.015 * noise(rng, 1.3))


def _clouds(rng: np.random.Generator) -> np.ndarray:
    pores = noise(rng, 0.3) > 2.6
    return _grey(np.where(pores, 0.45, 0.8 + 0.07 * noise(rng, 1.7) + 0.03 * noise(rng, 0.4)))


def _formwork(rng: np.random.Generator) -> np.ndarray:
    x, y = _pixels()
    field = 0.82 + 0.05 * noise(rng, 1.4, (0.3, 2.0)) + 0.04 * rng.standard_normal(8)[y // 32]
    field = np.where((y % 32 < 2) | (x % 128 < 1), 0.55, field)
    holes = np.hypot(x % 128 - 64, y % 128 - 64) < 4
    return _grey(np.where(holes, 0.3, field))


def _aggregate(rng: np.random.Generator) -> np.ndarray:
    specks = noise(rng, 0.9)
    field = np.where(specks > 1.3, 0.55, np.where(specks < -1.3, 1.05, 0.85)) + 0.02 * noise(rng, 0.5)
    return _grey(field)


def _running_bond(rng: np.random.Generator) -> np.ndarray:
    blocks = _cells(rng, 64, 21, 0.5, 3, 0.1, 1.05)
    return _blend(_grey(blocks + 0.05 * noise(rng, 0.5)), (1.0, 0.55, 0.42), (blocks < 1.02).astype(np.float32))


def _painted_blocks(rng: np.random.Generator) -> np.ndarray:
    return _grey(_cells(rng, 128, 64, 0.5, 3, 0.05, 0.72) + 0.03 * noise(rng, 0.4))


def _stack_bond(rng: np.random.Generator) -> np.ndarray:
    picture = _grey(_cells(rng, 32, 16, 0.0, 2, 0.3, 0.5) + 0.04 * noise(rng, 0.6))
    return _blend(picture, (1.0, 0.82, 0.55), np.ones((SIZE, SIZE), np.float32))


def _planks(rng: np.random.Generator) -> np.ndarray:
    x, y = _pixels()
    board = y // 32
    start = rng.integers(0, SIZE, 8)[board]
    grain = noise(rng, 0.9, (0.08, 3.0))
    field = 0.82 + 0.1 * rng.uniform(-1, 1, 8)[board] + 0.06 * grain
    return _grey(np.where((y % 32 < 2) | ((x + start) % SIZE < 2), 0.4, field))


def _veneer(rng: np.random.Generator) -> np.ndarray:
    x, _ = _pixels()
    warp = x / SIZE * 14 + 0.9 * noise(rng, 1.8, (3.0, 0.5))
    field = 0.86 + 0.07 * np.sin(2 * np.pi * warp) + 0.04 * noise(rng, 0.6, (4.0, 0.1))
    return _grey(np.where(x % 128 < 1, 0.55, field))


def _parquet(rng: np.random.Generator) -> np.ndarray:
    x, y = _pixels()
    upright = ((x // 64) + (y // 64)) % 2 == 0
    stave = np.where(upright, x % 64, y % 64)
    tones = rng.uniform(-1, 1, (4, 4, 4))[y // 64, x // 64, stave // 16]
    field = 0.84 + 0.13 * tones + 0.05 * np.where(upright, noise(rng, 0.7, (4.0, 0.2)), noise(rng, 0.7, (0.2, 4.0)))
    return _grey(np.where((stave % 16 < 1) | (x % 64 < 1) | (y % 64 < 1), 0.5, field))


def _loops(rng: np.random.Generator) -> np.ndarray:
    return _grey(0.75 + 0.16 * noise(rng, 0.15) + 0.03 * noise(rng, 1.6))


def _carpet_squares(rng: np.random.Generator) -> np.ndarray:
    x, y = _pixels()
    turned = ((x // 128) + (y // 128)) % 2 == 0
    ribs = np.where(turned, np.sin(x * np.pi / 4), np.sin(y * np.pi / 4))
    field = 0.76 + 0.07 * ribs + 0.07 * noise(rng, 0.2) + np.where(turned, 0.09, -0.09)
    return _grey(np.where((x % 128 < 1) | (y % 128 < 1), 0.5, field))


def _carpet_stripes(rng: np.random.Generator) -> np.ndarray:
    x, _ = _pixels()
    tones = np.repeat(rng.uniform(0.55, 1.0, 16), 16)[x]
    return _grey(tones + 0.1 * noise(rng, 0.1))


def _square_tiles(rng: np.random.Generator) -> np.ndarray:
    return _grey(_cells(rng, 64, 64, 0.0, 3, 0.05, 0.5) + 0.02 * noise(rng, 1.3))


def _long_tiles(rng: np.random.Generator) -> np.ndarray:
    return _grey(_cells(rng, 128, 64, 0.5, 2, 0.13, 1.1) + 0.05 * noise(rng, 1.6, (0.4, 1.0)))


def _checker(rng: np.random.Generator) -> np.ndarray:
    x, y = _pixels()
    dark = ((x // 32) + (y // 32)) % 2 == 0
    field = np.where(dark, 0.55, 1.0) + 0.03 * noise(rng, 1.2)
    return _grey(np.where((x % 32 < 1) | (y % 32 < 1), 0.75, field))


def _marbled(rng: np.random.Generator) -> np.ndarray:
    return _grey(0.85 + 0.06 * np.abs(noise(rng, 1.5, (0.6, 1.8))) + 0.02 * noise(rng, 0.5) - 0.05)


def _speckled_sheet(rng: np.random.Generator) -> np.ndarray:
    x, _ = _pixels()
    field = 0.86 + np.where(noise(rng, 0.35) > 1.9, -0.3, 0.0) + 0.02 * noise(rng, 1.5)
    return _grey(np.where(x < 1, 0.6, field))


def _screed(rng: np.random.Generator) -> np.ndarray:
    return _grey(0.84 + 0.09 * noise(rng, 1.9) + 0.02 * noise(rng, 0.2))


def _power_floated(rng: np.random.Generator) -> np.ndarray:
    return _grey(0.82 + 0.05 * np.abs(noise(rng, 1.2)) + 0.04 * noise(rng, 1.9))


def _sawn_slab(rng: np.random.Generator) -> np.ndarray:
    x, y = _pixels()
    return _grey(np.where((x < 1) | (y < 1), 0.5, 0.84 + 0.05 * noise(rng, 1.6) + 0.03 * noise(rng, 0.2)))


def _stained_slab(rng: np.random.Generator) -> np.ndarray:
    stains = noise(rng, 2.2)
    return _grey(0.86 + 0.02 * noise(rng, 0.3) - 0.12 * np.clip(stains - 0.8, 0, 1))


def _weave(rng: np.random.Generator) -> np.ndarray:
    x, y = _pixels()
    return _grey(0.8 + 0.12 * np.sign(np.sin(x * np.pi / 4) * np.sin(y * np.pi / 4)) + 0.05 * noise(rng, 0.3))


def _twill(rng: np.random.Generator) -> np.ndarray:
    x, y = _pixels()
    return _grey(0.8 + 0.14 * np.sin((x + y) * np.pi / 8) + 0.05 * noise(rng, 0.5))


def _melange(rng: np.random.Generator) -> np.ndarray:
    return _grey(0.8 + 0.12 * noise(rng, 0.5, (0.5, 2.0)))


def _brushed(rng: np.random.Generator) -> np.ndarray:
    return _grey(0.85 + 0.06 * noise(rng, 0.4, (0.05, 4.0)))


def _corrugated(rng: np.random.Generator) -> np.ndarray:
    x, _ = _pixels()
    return _grey(0.82 + 0.16 * np.sin(x * 2 * np.pi / 32) + 0.02 * noise(rng, 0.8))


def _sheet_metal(rng: np.random.Generator) -> np.ndarray:
    x, y = _pixels()
    field = 0.87 + 0.04 * noise(rng, 1.8)
    rivets = np.hypot(x % 64 - 32, y % 128 - 6) < 3
    return _grey(np.where(rivets, 0.55, np.where(y % 128 < 1, 0.5, field)))


def _ceiling_squares(rng: np.random.Generator) -> np.ndarray:
    x, y = _pixels()
    holes = (np.hypot(x % 8 - 4, y % 8 - 4) < 1.2) & (x % 128 > 8) & (y % 128 > 8)
    field = np.where(holes, 0.7, 0.95 + 0.01 * noise(rng, 0.5))
    return _grey(np.where((x % 128 < 4) | (y % 128 < 4), 0.62, field))


def _ceiling_boards(rng: np.random.Generator) -> np.ndarray:
    x, y = _pixels()
    field = np.where(noise(rng, 0.7) > 1.7, 0.72, 0.95)
    return _grey(np.where((x % 256 < 4) | (y % 128 < 4), 1.1, field - 0.04 * rng.uniform(0, 1, 2)[y // 128]))


def _ceiling_slats(rng: np.random.Generator) -> np.ndarray:
    _, y = _pixels()
    return _grey(np.where(y % 32 < 4, 0.35, 0.93 + 0.02 * noise(rng, 0.9, (0.1, 1.0))))


def _wall_boards(rng: np.random.Generator) -> np.ndarray:
    x, _ = _pixels()
    return _grey(np.where(x % 128 < 2, 0.5, 0.92 + 0.02 * noise(rng, 1.0)))


def _wall_boards_crossed(rng: np.random.Generator) -> np.ndarray:
    x, y = _pixels()
    return _grey(np.where((x % 256 < 3) | (y % 128 < 3), 0.6, 0.9 + 0.025 * noise(rng, 1.4) + 0.03 * (y < 128)))


def _wall_slats(rng: np.random.Generator) -> np.ndarray:
    x, _ = _pixels()
    return _grey(np.where(x % 16 < 5, 0.4, 0.9 + 0.04 * noise(rng, 0.7, (4.0, 0.2))))


def _leaves(power: float, threshold: float) -> Pattern:
    def make(rng: np.random.Generator) -> np.ndarray:
        field = noise(rng, power)
        return _grey(np.where(field > threshold, 1.05, 0.55) + 0.15 * noise(rng, 0.5))

    return make


def _smooth(amount: float) -> Pattern:
    def make(rng: np.random.Generator) -> np.ndarray:
        return _grey(0.94 + amount * noise(rng, 1.3))

    return make


PATTERNS: dict[str, tuple[float, tuple[Pattern, Pattern, Pattern]]] = {
    "plain": (1.6, (_streaks, _roller, _stipple)),
    "concrete": (2.0, (_aggregate, _clouds, _formwork)),
    "brick": (1.0, (_stack_bond, _running_bond, _painted_blocks)),
    "wood": (1.1, (_parquet, _planks, _veneer)),
    "carpet": (1.0, (_carpet_stripes, _carpet_squares, _loops)),
    "tiles": (1.2, (_checker, _square_tiles, _long_tiles)),
    "sheet": (2.2, (_screed, _marbled, _speckled_sheet)),
    "slab": (3.0, (_power_floated, _sawn_slab, _stained_slab)),
    "fabric": (0.3, (_twill, _weave, _melange)),
    "metal": (0.9, (_sheet_metal, _brushed, _corrugated)),
    "ceiling": (1.2, (_ceiling_slats, _ceiling_squares, _ceiling_boards)),
    "boards": (1.8, (_wall_slats, _wall_boards, _wall_boards_crossed)),
    "plant": (0.4, (_leaves(0.9, 0.2), _leaves(0.6, -0.2), _leaves(1.2, 0.0))),
    "smooth": (1.0, (_smooth(0.03), _smooth(0.015), _smooth(0.04))),
}
"""Kind of surface -> (edge of the picture in metres, one pattern per family in the order of FAMILIES)."""
