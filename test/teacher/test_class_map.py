"""The presets name each of the 150 classes once, as METHODS 8.3 and 8.4 say."""

from __future__ import annotations

import numpy as np
import pytest

from xkd_ros.core.errors import ConfigError
from xkd_ros.core.labels import INDOOR12, INDOOR12_TO_STRUCT4, STRUCT4
from xkd_ros.teacher.class_map import load_class_map

PRESETS = ("indoor12", "struct4_seed", "struct4_aligned")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_complete(name):
    class_map = load_class_map(name)
    assert list(class_map.ade20k) == list(range(150))
    assert set(class_map.ade20k.values()) == {*range(len(class_map.label_set)), 255}
    assert class_map.label_set.names == (INDOOR12 if name == "indoor12" else STRUCT4).names
    assert class_map.groups.shape == (len(class_map.label_set) + 1, 150)
    assert (class_map.groups.sum(0) == 1).all()
    assert all(class_map.groups[-1 if ours == 255 else ours, ade] == 1 for ade, ours in class_map.ade20k.items())


def test_indoor12_holds_what_the_table_says():
    ade = load_class_map("indoor12").ade20k
    said = {0: 0, 1: 0, 149: 0, 3: 1, 28: 1, 5: 2, 82: 2, 14: 3, 58: 3, 8: 4, 18: 4, 42: 5, 53: 6, 33: 7, 19: 8, 10: 9, 12: 10, 74: 11}
    assert {number: ade[number] for number in said} == said
    assert [number for number, ours in ade.items() if ours == 255] == [
        2, 16, 20, 21, 26, 27, 34, 60, 61, 68, 76, 80, 83, 90, 102, 103, 109, 113, 128, 140
    ]  # fmt: skip
    assert np.bincount([ours for ours in ade.values() if ours != 255]).tolist() == [15, 13, 5, 2, 3, 3, 6, 9, 11, 22, 1, 40]


def test_struct4_aligned_is_indoor12_merged():
    fine, coarse = load_class_map("indoor12").ade20k, load_class_map("struct4_aligned").ade20k
    assert {number: int(INDOOR12_TO_STRUCT4[ours]) for number, ours in fine.items()} == coarse


def test_struct4_seed_ignores_chairs_tables_and_furniture():
    ade = load_class_map("struct4_seed").ade20k
    assert [number for number, ours in ade.items() if ours < 3] == [0, 1, 3, 5, 6, 11]
    assert ade[19] == ade[33] == ade[10] == 255
    assert ade[14] == ade[42] == ade[12] == ade[22] == 3


def test_hashes_tell_maps_apart_and_ignore_order(tmp_path):
    hashes = [load_class_map(name).hash for name in PRESETS]
    assert len(set(hashes)) == 3
    groups = load_class_map("indoor12").classes
    lines = [f"  {name}: {sorted(ids, reverse=True)}" for name, ids in reversed(groups.items())]
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nlabels: indoor12\nclasses:\n" + "\n".join(lines))
    assert load_class_map(path).hash == hashes[0]


def test_own_classes(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\nlabels: {names: [solid, person], colours: [[1, 2, 3], [4, 5, 6]]}\n"
        f"classes: {{person: [12], solid: {[n for n in range(150) if n not in (2, 12)]}, ignore: [2]}}"
    )
    class_map = load_class_map(path)
    assert (class_map.ade20k[12], class_map.ade20k[0], class_map.ade20k[2]) == (1, 0, 255)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("classes: {wall: [0, 0], floor: [], ceiling: [], non-structural: []}", "twice [0], missing [1, 2"),
        (f"classes: {{wall: {list(range(151))}, floor: [], ceiling: [], non-structural: []}}", "unknown [150]"),
        (
            f"classes: {{wal: {list(range(150))}, floor: [], ceiling: [], non-structural: []}}",
            "no label for ['wal'], no group for ['wall']",
        ),
    ],
)
def test_a_wrong_map_is_refused_in_one_line(tmp_path, content, said):
    path = tmp_path / "wrong.yaml"
    path.write_text(f"name: wrong\nlabels: struct4\n{content}")
    with pytest.raises(ConfigError) as error:
        load_class_map(path)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(ConfigError, match="indoor12, struct4_aligned, struct4_seed"):
        load_class_map("indoor13")
