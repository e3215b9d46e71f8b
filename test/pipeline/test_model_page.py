"""The page of a model: every IoU stands under the class that it belongs to."""

from __future__ import annotations

from pathlib import Path

from xkd_ros.core.card import ModelCard
from xkd_ros.core.labels import INDOOR12, STRUCT4
from xkd_ros.pipeline.model_page import write_model_page


def test_scores_stand_in_the_table_of_their_classes(tmp_path: Path) -> None:
    coarse = {"points": 9, "miou": 25.0, "iou": [10.0, 20.0, 30.0, 40.0]}
    fine = {"points": 9, "miou": 50.0, "iou": [50.0] * 12, "struct4": {"miou": 60.0, "iou": [60.0] * 4}}
    evaluation = {
        "scans_by_split": {"train": 7},
        "real": {"all points": coarse, "classes": list(STRUCT4.names)},
        "pseudo": {"all points": fine, "classes": list(INDOOR12.names), "ece": 0.1},
    }
    write_model_page(ModelCard(name="site", metrics={"evaluation": evaluation}), tmp_path, "xkd learn")
    assert "on 7 training frames, from which the model learnt" in (tmp_path / "README.md").read_text()
    four, twelve = (tmp_path / "README.md").read_text().split("| Classes of the model")
    assert "| true labels, all points | 25.0 | 10.0 | 20.0 | 30.0 | 40.0 |" in four and "true labels" not in twelve
    assert "labels, all points | 60.0 |" in four and "labels, all points | 50.0 |" in twelve


def test_a_hundred_recordings_do_not_fill_the_page(tmp_path: Path) -> None:
    sources = [f"walk{number} (sha256 0123): 10 frames of rig a" for number in range(100)]
    write_model_page(ModelCard(name="site", sources=sources), tmp_path, "xkd learn")
    page = (tmp_path / "README.md").read_text()
    assert "walk2 (" in page and "walk3 (" not in page and "and 97 more" in page
    write_model_page(ModelCard(name="site", sources=sources[:3]), tmp_path, "xkd learn")
    assert "more" not in (tmp_path / "README.md").read_text().split("Sources:")[1].splitlines()[0]
