"""Many simulated walks with one command: names, ranges, going on after an interruption."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from xkd_ros.core.errors import BagError, ConfigError
from xkd_ros.pipeline import walks as module
from xkd_ros.pipeline.simulation import load_truth, run_simulations
from xkd_ros.pipeline.walks import Walk, read_seeds, simulate_walks


@pytest.mark.parametrize(("text", "expected"), [("75", [75]), ("60-62", [60, 61, 62]), ("7-7", [7])])
def test_buildings_are_one_or_a_range(text: str, expected: list[int]) -> None:
    assert list(read_seeds(text)) == expected


@pytest.mark.parametrize("text", ["", "a", "-3", "3-", "5-4", "1-2-3", "1.5"])
def test_what_names_no_buildings_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="names no buildings"):
        read_seeds(text)


def test_a_rig_file_elsewhere_does_not_lead_out_of_the_folder() -> None:
    assert [Walk(rig, 7, 1.0, 1).name for rig in ("vlp32", "/etc/rigs/mine.yaml", "../mine.yaml")] == ["vlp32-007", "mine-007", "mine-007"]


def test_each_rig_walks_through_each_building_in_few_frames(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    walks = [Walk("vlp32", seed, 0.6, 3) for seed in (3, 4)]
    run_simulations(walks, tmp_path / "walks", processes=1)
    folders = sorted(path.name for path in (tmp_path / "walks").iterdir())
    assert folders == ["vlp32-003", "vlp32-004"]
    assert [load_truth(tmp_path / "walks" / name).facts["seed"] for name in folders] == [3, 4]
    assert len(list((tmp_path / "walks" / "vlp32-003" / "truth").glob("*.npz"))) == 2
    said = capsys.readouterr().out
    assert "xkd learn" in said and "wrote 2 recordings" in said
    run_simulations(walks, tmp_path / "walks", processes=1)
    assert "wrote 0 recordings" in (said := " ".join(capsys.readouterr().out.split())) and "2 were there and are kept" in said


def test_recordings_that_exist_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    monkeypatch.setattr(module, "_simulate", lambda walk, path: (path.mkdir(parents=True), made.append(walk.name)))
    monkeypatch.setattr(module, "difference", lambda walk, path: "")
    wanted = [Walk("vlp32", seed, 1.0, 2) for seed in (1, 2, 3)]
    simulate_walks(wanted[:2], tmp_path, 1)
    paths = simulate_walks(wanted, tmp_path, 1)
    assert made == ["vlp32-001", "vlp32-002", "vlp32-003"] and [path.name for path in paths] == made


def test_recordings_of_other_walks_are_not_taken_for_these(tmp_path: Path) -> None:
    walk = Walk("vlp32", 3, 0.4, 2, pictures=False)
    simulate_walks([walk], tmp_path, 1)
    assert simulate_walks([walk], tmp_path, 1) == [tmp_path / walk.name]
    others = {
        "0.4 s": replace(walk, seconds=0.5),
        "2 scans instead of 4": replace(walk, every=1),
        "without pictures": replace(walk, pictures=True),
        "2 people added": replace(walk, walkers=0),
    }
    for told, other in others.items():
        with pytest.raises(BagError, match=f"vlp32-003 is of another walk .*{told}"):
            simulate_walks([other], tmp_path, 1)
    assert module.difference(Walk("ouster16", 4, 0.4, 2, pictures=False), tmp_path / walk.name) == "building 3, rig vlp32"
    (tmp_path / "vlp32-009").mkdir()
    with pytest.raises(BagError, match="no simulated recording"):
        simulate_walks([replace(walk, building=9)], tmp_path, 1)
