"""README.md of a model folder, written from its card so that no figure is typed by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xkd_ros.core.card import ModelCard
from xkd_ros.core.files import write_atomic
from xkd_ros.core.labels import STRUCT4
from xkd_ros.evaluate.evaluation import where_scored

_SOURCES = 3
"""So many recordings are named on the page."""


def write_model_page(card: ModelCard, folder: Path, command: str, notes: str = "") -> None:
    """Write the page: what the model is, how good, how it was made.

    Args:
        card: With metrics of `pipeline.student_validation`.
        folder: Model folder.
        command: What remakes the model.
        notes: Further lines, Markdown.
    """
    network, geometry = card.network, card.geometry
    lines = [
        f"# {card.name}",
        "",
        f"{network.depth} layers, width {network.width}, {len(card.labels)} classes ({', '.join(card.labels.names)}); "
        f"voxels of {geometry.voxel_m} m, cells of {geometry.cell_m} m. {card.licence}.",
        "",
        f"Made by: {card.recipe.get('method', 'unknown')}. Sources: {_shortened(card.sources)}.",
        "",
        "```bash",
        command,
        "```",
        "",
        notes,
        "",
        f"IoU in percent at raw-scan resolution{_where(card.metrics)}, printed by the command above at its end (`card.json` holds the same "
        "figures):",
        "",
        *_table("Four structural classes", STRUCT4.names, _rows(card.metrics, "struct4", STRUCT4.names)),
        "",
        *_table("Classes of the model", card.labels.names, _rows(card.metrics, "indoor12", card.labels.names)),
    ]
    ece = card.metrics.get("shifted_buildings", {}).get("ece")
    if ece is not None:
        lines += ["", f"Expected calibration error of `probability` on shifted buildings (15 bins): {100 * ece:.1f} %."]
    write_atomic(folder / "README.md", "\n".join(lines) + "\n")


def _shortened(sources: Sequence[str]) -> str:
    if len(sources) <= _SOURCES:
        return "; ".join(sources)
    return f"{'; '.join(sources[:_SOURCES])}; and {len(sources) - _SOURCES} more, named in `card.json`"


def _where(metrics: dict[str, Any]) -> str:
    scans = metrics.get("evaluation", {}).get("scans_by_split")
    return f" {where_scored(scans)}" if scans else ""


def _rows(metrics: dict[str, Any], key: str, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Collect name → {miou, iou} of what was scored over these classes: four ("struct4") or the model's own ("indoor12").

    Real labels may be coarser than the model: what was counted in four classes stands in the table of four.
    """
    rows = {"simulated, building styles not in training": metrics.get("shifted_buildings", {}).get(key)}
    rows |= {f"real workshop, {name}": row.get(key) for name, row in metrics.get("real", {}).items()}
    for kind, words in (("real", "true labels"), ("pseudo", "the teacher's labels")):
        scores = metrics.get("evaluation", {}).get(kind, {})
        own = {heading: row for heading, row in scores.items() if isinstance(row, dict) and row["points"]}
        same = tuple(scores.get("classes", ())) == names
        rows |= {f"{words}, {heading}": row if same else row.get(key) for heading, row in own.items()}
    return {name: row for name, row in rows.items() if row}


def _table(title: str, names: tuple[str, ...], rows: dict[str, dict[str, Any]]) -> list[str]:
    if not rows:
        return []
    lines = [f"| {title} | mIoU | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    for name, row in rows.items():
        cells = ["-" if value is None else f"{value:.1f}" for value in (row["miou"], *row["iou"])]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines
