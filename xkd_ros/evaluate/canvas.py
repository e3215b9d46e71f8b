"""What every drawing needs: matplotlib without a screen, text that is taken literally, a picture as bytes."""

from __future__ import annotations

import io
from typing import Any

from xkd_ros.core.errors import require

HINT = "pip install 'xkd_ros[view]'"
_LONGEST = 60


def pyplot() -> Any:
    """Load matplotlib's pyplot for drawing into files.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    require("matplotlib", "drawing pictures", HINT).use("Agg")
    return require("matplotlib.pyplot", "drawing pictures", HINT)


def plain_text(text: str, longest: int = _LONGEST) -> str:
    """Make a name read from a file safe to draw: a dollar sign would start a formula, and long names would fill the picture."""
    short = text if len(text) <= longest else text[: longest - 1] + "…"
    return "".join(letter if letter.isprintable() else " " for letter in short).replace("$", r"\$")


def png(figure: Any, dpi: int = 110) -> bytes:
    """Turn a figure into PNG bytes and close it."""
    buffer = io.BytesIO()
    try:
        figure.savefig(buffer, dpi=dpi, format="png")
    finally:
        pyplot().close(figure)
    return buffer.getvalue()
