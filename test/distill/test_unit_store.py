"""Units on disk: whole or not there, the same by every access, resumed, and one clear line about damage."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from rooms import Rooms, Surfaces

from xkd_ros.core.errors import ConfigError, ShapeError, XkdError
from xkd_ros.core.labels import STRUCT4
from xkd_ros.distill.partdistill.unit_store import UnitPlan, UnitStore, UnitWriter
from xkd_ros.distill.partdistill.units import FrameUnits, Origin, Unit

UNITS = Surfaces(Rooms())
NUMBERS = [0, 1, 2, 3, 4, 5, 6, 7]
PLAN = UnitPlan(frames_hash="f", class_hash="c", label_set=STRUCT4, makers={"pixels": {"teacher": "t", "gap_m": 0.5}}, frames_per_part=3)
COLUMNS = ("label", "score", "origin", "view", "start", "point")


def frame_units(number: int) -> FrameUnits:
    return FrameUnits.of([]) if number == 5 else UNITS[number]


def write(folder, numbers=NUMBERS, finish: bool = True) -> UnitWriter:
    writer = UnitWriter(folder, PLAN)
    for number in numbers[writer.done :]:
        writer.add(number, frame_units(number))
    if finish:
        writer.finish()
    return writer


def test_what_is_written_is_read(tmp_path) -> None:
    write(tmp_path / "units")
    store = UnitStore(tmp_path / "units", "f")
    assert len(store) == 8 and len(store.hash) == 16 and [part.frames for part in store.manifest.parts] == [3, 3, 2]
    for number in NUMBERS:
        wanted, found = frame_units(number), store[number]
        assert all(np.array_equal(getattr(found, name), getattr(wanted, name)) for name in COLUMNS), number
        assert np.abs(found.confidence - wanted.confidence).max(initial=0) <= 0.5 / 255 + 1e-6
        assert np.array_equal(found.unit, np.repeat(np.arange(len(wanted)), np.diff(wanted.start)))
    with pytest.raises(IndexError, match="frame 8 has no units"):
        store[8]
    assert len(pickle.dumps(store)) < 20_000
    again = pickle.loads(pickle.dumps(store))  # noqa: S301
    assert np.array_equal(again[7].point, frame_units(7).point)


def test_an_unfinished_folder_is_not_taken_for_whole_and_goes_on(tmp_path) -> None:
    write(tmp_path / "whole")
    assert write(tmp_path / "cut", NUMBERS[:7], finish=False).done == 6
    with pytest.raises(XkdError, match="holds no whole set of units"):
        UnitStore(tmp_path / "cut")
    (tmp_path / "cut" / ".part-00002.xyz.part").mkdir()  # what a killed write leaves
    assert write(tmp_path / "cut").done == 8
    cut, whole = UnitStore(tmp_path / "cut"), UnitStore(tmp_path / "whole")
    assert cut.hash == whole.hash and all(np.array_equal(cut[number].start, whole[number].start) for number in NUMBERS)
    assert write(tmp_path / "cut", finish=False).whole


def test_other_inputs_are_refused(tmp_path) -> None:
    write(tmp_path / "units", NUMBERS[:4], finish=False)
    for change, name in (
        ({"frames_hash": "new"}, "frames"),
        ({"class_hash": "new"}, "class map"),
        ({"makers": {"pixels": {"teacher": "t", "gap_m": 0.6}}}, "teachers or settings"),
    ):
        with pytest.raises(ConfigError, match=f"holds units of other {name}; delete it"):
            UnitWriter(tmp_path / "units", PLAN.model_copy(update=change))
    write(tmp_path / "units")
    with pytest.raises(ConfigError, match="are of other frames"):
        UnitStore(tmp_path / "units", "new")
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "photo.jpg").write_bytes(b"")
    with pytest.raises(ConfigError, match="is not empty and holds no units"):
        UnitWriter(tmp_path / "holiday", PLAN)


@pytest.mark.parametrize(
    ("column", "change", "message"),
    [
        ("point", lambda array: array[:-5], "expected"),
        ("point", lambda array: array.astype(np.float64), "float64"),
        ("score", lambda array: array + 1, "not between 0 and 1"),
        ("score", lambda array: array * np.float32("nan"), "not between 0 and 1"),
        ("numbers", lambda array: array * 0, "holds a frame twice"),
        ("label", lambda array: array + 9, "has class"),
        ("start", lambda array: array[::-1].copy(), "does not divide"),
        ("first", lambda array: array + 1, "does not divide"),
        ("confidence", None, "cannot read"),
    ],
)
def test_damage_is_one_clear_line(tmp_path, column, change, message) -> None:
    write(tmp_path / "units")
    path = tmp_path / "units" / "part-00001" / f"{column}.npy"
    array = np.load(path)
    path.unlink()
    if change:
        np.save(path, change(array))
    with pytest.raises(XkdError, match=message) as error:
        UnitStore(tmp_path / "units")[3]
    assert "make the units again" in str(error.value) and "\n" not in str(error.value) and str(tmp_path / "units") in str(error.value)


def test_sizes_are_not_believed(tmp_path) -> None:
    """Headers and manifest that agree on more bytes than there are files."""
    write(tmp_path / "units")
    manifest, path = tmp_path / "units" / "manifest.json", tmp_path / "units" / "part-00000" / "point.npy"
    content = json.loads(manifest.read_text())
    content["parts"][0]["members"] = 1 << 40
    manifest.write_text(json.dumps(content))
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<i4", "fortran_order": False, "shape": (1 << 40,)})
        file.write(bytes(400))
    with pytest.raises(XkdError, match=rf"point\.npy is damaged \(\d+ bytes, expected {4 * (1 << 40) + 128}"):
        UnitStore(tmp_path / "units")[0]


def test_cut_files_and_strange_manifests(tmp_path) -> None:
    write(tmp_path / "units")
    path = tmp_path / "units" / "part-00000" / "point.npy"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(XkdError, match=r"point\.npy is damaged"):
        UnitStore(tmp_path / "units")[0]
    manifest = tmp_path / "units" / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"part-00001"', '"../other"'))
    with pytest.raises(XkdError, match="would leave its folder"):
        UnitStore(tmp_path / "units")
    manifest.write_text(text[:40])
    with pytest.raises(ConfigError, match=r"manifest\.json"):
        UnitStore(tmp_path / "units")


def test_arrays_must_fit_together() -> None:
    units = UNITS[0]
    with pytest.raises(ShapeError, match="do not fit together: label"):
        FrameUnits(units.label[1:], units.score, units.origin, units.view, units.start, units.point, units.confidence)
    with pytest.raises(ShapeError, match="do not divide"):
        FrameUnits(units.label, units.score, units.origin, units.view, units.start + 1, units.point, units.confidence)
    lone = FrameUnits.of([Unit(2, 0.5, Origin.BOX, 1, np.array([4, 9]), np.array([0.5, 0.25]))])
    assert lone.sizes.tolist() == [2] and lone.point.dtype == np.int32 and lone.origin.tolist() == [1]
