"""Pictures hold the colours of their labels; the viewer's file is written whole."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from xkd_ros.core.labels import INDOOR12
from xkd_ros.evaluate.pictures import draw_overlay, draw_scan
from xkd_ros.evaluate.viewer import ViewerScan, write_recording

pytest.importorskip("matplotlib")


def _has_colour(picture: Path, label: int) -> bool:
    rgb = cv2.imread(str(picture))[..., ::-1].astype(int)
    return bool((np.abs(rgb - INDOOR12.palette[label].astype(int)).max(axis=2) < 12).any())


@pytest.fixture
def points() -> np.ndarray:
    return np.random.default_rng(0).uniform([-5, -4, -1], [5, 4, 2], (3000, 3)).astype(np.float32)


def test_scan_shows_each_label_in_its_colour(tmp_path: Path, points: np.ndarray) -> None:
    labels = np.where(points[:, 0] > 0, 3, 10).astype(np.uint8)
    draw_scan(tmp_path / "scan.png", points, {"true": labels, "predicted": labels}, INDOOR12, "two halves")
    assert _has_colour(tmp_path / "scan.png", 3) and _has_colour(tmp_path / "scan.png", 10) and not _has_colour(tmp_path / "scan.png", 6)


def test_scan_with_nothing_measured(tmp_path: Path) -> None:
    draw_scan(tmp_path / "empty.png", np.full((10, 3), np.nan, np.float32), {"predicted": np.full(10, 255, np.uint8)}, INDOOR12)
    assert cv2.imread(str(tmp_path / "empty.png")) is not None


def test_overlay(tmp_path: Path) -> None:
    rgb = np.zeros((120, 160, 3), np.uint8)
    uv = np.random.default_rng(1).uniform([0, 0], [159, 119], (400, 2)).astype(np.float32)
    draw_overlay(tmp_path / "overlay.png", rgb, uv, {"predicted": np.full(400, 5, np.uint8)}, INDOOR12)
    assert _has_colour(tmp_path / "overlay.png", 5)


def test_viewer_recording(tmp_path: Path, points: np.ndarray) -> None:
    pytest.importorskip("rerun")
    labels = np.zeros(len(points), np.uint8)
    scans = [ViewerScan(n * 100_000_000, points, {"predicted": labels, "true": labels}) for n in range(2)]
    write_recording(tmp_path / "a.rrd", scans, INDOOR12, "predicted")
    assert [path.name for path in tmp_path.iterdir()] == ["a.rrd"] and (tmp_path / "a.rrd").stat().st_size > 2 * points.nbytes
