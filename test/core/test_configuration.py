"""Cards, rigs, label sets and YAML: round trips, and one clear line for each way of being wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from xkd_ros.core.card import GeometryConfig, ModelCard, NetworkConfig, load_card, model_file, save_card
from xkd_ros.core.config import change, load_yaml
from xkd_ros.core.errors import ConfigError, MissingPackageError, ModelError, ShapeError, XkdError, require
from xkd_ros.core.files import atomic_path, inside, sha256, write_atomic
from xkd_ros.core.labels import INDOOR12, INDOOR12_TO_STRUCT4, STRUCT4, LabelSet
from xkd_ros.core.rig import RigConfig, load_rig, save_rig
from xkd_ros.core.types import Scan, Segmentation

RIG = {
    "name": "test",
    "lidar": {"topic": "/points", "frame_id": "lidar", "rpy_deg": [7, 0, 90]},
    "cameras": [{"name": "front", "topic": "/image", "width": 640, "height": 480, "K": [500, 0, 320, 0, 500, 240, 0, 0, 1],
                 "cam_from_lidar": [0, -1, 0, 0, 0, 0, -1, 0, 1, 0, 0, 0.1, 0, 0, 0, 1]}],
}  # fmt: skip


def test_a_key_that_stands_twice_is_refused_and_a_merge_may_be_overruled(tmp_path: Path) -> None:
    path = tmp_path / "rig.yaml"
    path.write_text("name: a\nlidar: {topic: /a}\nname: b\n")
    with pytest.raises(ConfigError, match=r"rig\.yaml is not valid YAML: the key 'name' stands twice"):
        load_yaml(path, RigConfig)
    path.write_text("name: a\nlidar: &common {topic: /a, frame_id: f}\n")
    assert load_yaml(path, RigConfig).lidar.topic == "/a"
    path.write_text("name: a\nlidar:\n  <<: {topic: /a, frame_id: f}\n  topic: /b\n")
    assert load_yaml(path, RigConfig).lidar.model_dump(include={"topic", "frame_id"}) == {"topic": "/b", "frame_id": "f"}


def test_card_round_trip(tmp_path: Path) -> None:
    card = ModelCard(name="student", metrics={"miou": 71.5})
    save_card(card, tmp_path)
    assert load_card(tmp_path) == card and load_card(tmp_path).hash == card.hash


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": {"classes": 4}}, "4 outputs but 12 class names"),
        ({"geometry": {"voxle_m": 0.1}}, "did you mean 'voxel_m'"),
        ({"name": "../evil"}, "name"),
        ({"geometry": {"fov_min_m": [0, 0, 0], "fov_max_m": [0, 1, 1]}}, "wide on each axis"),
    ],
)
def test_wrong_cards_are_one_line(tmp_path: Path, change: dict, message: str) -> None:
    (tmp_path / "card.json").write_text(json.dumps(change))
    with pytest.raises(ModelError, match=message) as caught:
        load_card(tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_missing_card_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        load_card(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ModelError, match=r"notes\.txt"):
        load_card(tmp_path)


def test_model_file_checks_list_presence_and_hash(tmp_path: Path) -> None:
    weights = tmp_path / "w.bin"
    weights.write_bytes(b"abc")
    card = ModelCard(files={"w.bin": sha256(weights), "gone.bin": "0", "../w.bin": "0"})
    assert model_file(tmp_path, card, "w.bin") == weights.resolve()
    for name, message in (("other.bin", "does not list"), ("gone.bin", "missing"), ("../w.bin", "leave its folder")):
        with pytest.raises(XkdError, match=message):
            model_file(tmp_path, card, name)
    weights.write_bytes(b"abd")
    with pytest.raises(ModelError, match="hash differs"):
        model_file(tmp_path, card, "w.bin")


def test_a_link_cannot_leave_the_folder(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "secret").write_text("s")
    (tmp_path / "model" / "w.bin").symlink_to(tmp_path / "secret")
    with pytest.raises(XkdError, match="leave its folder"):
        inside(tmp_path / "model", "w.bin")
    for name in (".", "", "../model", "a/.."):
        with pytest.raises(XkdError, match="leave its folder"):
            inside(tmp_path / "model", name)


def test_rig_round_trip(tmp_path: Path) -> None:
    rig = RigConfig.model_validate(RIG)
    save_rig(rig, tmp_path / "rig.yaml")
    assert load_rig(tmp_path / "rig.yaml") == rig
    rotation = rig.lidar.rotation()
    assert rotation is not None and np.allclose(rotation @ [1, 0, 0], [1, 0, 0])  # yaw never matters for levelling


@pytest.mark.parametrize("index", [0, 3, 15])
def test_extrinsic_that_is_no_rigid_transform(index: int) -> None:
    broken = json.loads(json.dumps(RIG))
    broken["cameras"][0]["cam_from_lidar"][index] = 2.0
    if index == 3:
        RigConfig.model_validate(broken)  # a translation may be anything
    else:
        with pytest.raises(ValueError, match=r"rotation|rigid"):
            RigConfig.model_validate(broken)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not valid YAML"),
        ("[1, 2]", "holds list"),
        ("network: 3", "network"),
        *((f"name: {value}", "not valid YAML") for value in ("2024-02-30", "0x_", "!!bool foo", "!!timestamp foo")),
        ("name: &a [" + "*a, " * 20_000 + "1]", "more than 1000000 values"),
    ],
)
def test_broken_yaml_names_the_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_yaml(path, ModelCard)
    assert "x.yaml" in str(caught.value)


def test_label_sets() -> None:
    assert len(INDOOR12) == 12 and len(STRUCT4) == 4 and INDOOR12.hash != STRUCT4.hash
    assert {INDOOR12.names[i] for i in np.flatnonzero(INDOOR12_TO_STRUCT4[:12] == 0)} == {"wall", "column"}
    assert INDOOR12_TO_STRUCT4[255] == 255 and INDOOR12.palette.shape == (256, 3)
    with pytest.raises(ValueError, match="repeat"):
        LabelSet(names=("a", "a"), colours=((0, 0, 0), (1, 1, 1)))


def test_types_check_their_shapes() -> None:
    with pytest.raises(ShapeError, match="points_m"):
        Scan(np.zeros((4, 2)))
    with pytest.raises(ShapeError, match="intensity"):
        Scan(np.zeros((4, 3)), np.zeros(3))
    with pytest.raises(ShapeError, match="entropy"):
        Segmentation(np.zeros(3, np.uint8), np.zeros(3), np.zeros(2))


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_atomic(path, "old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_what_cannot_be_read_while_writing_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(XkdError, match=r"cannot write .*b\.txt: No such file.*; /nowhere/a cannot be used"),
        atomic_path(tmp_path / "b.txt"),
    ):
        open("/nowhere/a")  # noqa: SIM115
    with pytest.raises(XkdError, match="free space"), atomic_path(tmp_path / "b.txt") as temporary:
        raise OSError(28, "No space left on device", str(temporary))
    (tmp_path / "plain").write_text("")
    with pytest.raises(XkdError, match="plain is a file where a folder is needed"):
        write_atomic(tmp_path / "plain" / "b.txt", "x")


def test_atomic_folder_replaces_a_folder(tmp_path: Path) -> None:
    target = tmp_path / "bag"
    for content in ("one", "two"):
        with atomic_path(target) as temporary:
            temporary.mkdir()
            (temporary / "f").write_text(content)
    assert (target / "f").read_text() == "two" and [p.name for p in tmp_path.iterdir()] == ["bag"]


def test_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(XkdError, match="cannot write"):
        write_atomic(tmp_path / "file" / "below", "x")


def test_missing_package_says_what_to_install() -> None:
    with pytest.raises(MissingPackageError, match="pip install nothing"):
        require("no_such_module_xyz", "flying", "pip install nothing")


def test_network_sizes_are_bounded() -> None:
    with pytest.raises(ValueError):
        NetworkConfig(width=10**9)


def test_numbers_of_a_card_come_back_as_numbers(tmp_path: Path) -> None:
    card = ModelCard(metrics={"small": 1e-7, "large": 1e22, "entropy": {"mean": 2e-6}})
    save_card(card, tmp_path)
    assert load_card(tmp_path) == card and load_card(tmp_path).hash == card.hash and load_card(tmp_path).usual_entropy == 2e-6
    (tmp_path / "card.json").write_text("{")
    with pytest.raises(ModelError, match="not valid JSON"):
        load_card(tmp_path)


def test_more_cells_than_memory_are_refused() -> None:
    with pytest.raises(ValueError, match="make cell_m larger"):
        GeometryConfig(fov_min_m=(-500, -500, -3), fov_max_m=(500, 500, 3), cell_m=0.03)


def test_changes_win_over_the_file_and_keep_the_rest():
    content = {"a": {"b": 1, "c": 2}, "d": 3}
    assert change(content, ["a.b=[1, 2]", "e.f=true", "d=x=y"]) == {"a": {"b": [1, 2], "c": 2}, "d": "x=y", "e": {"f": True}}
    assert content == {"a": {"b": 1, "c": 2}, "d": 3}


@pytest.mark.parametrize("line", ["a.b", "=3", "d.x=1", "a={"])
def test_a_change_that_means_nothing_is_refused(line):
    with pytest.raises(ConfigError, match="--set"):
        change({"a": {"b": 1}, "d": 3}, [line])
