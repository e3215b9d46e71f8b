"""A few hundred mutated inputs of each kind in every test run, and one test for each bug that fuzzing found."""

from __future__ import annotations

import importlib
import subprocess
import sys
import warnings
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("rosbags")

from xkd_ros.bags.truth import read_labels
from xkd_ros.core.errors import BagError, XkdError
from xkd_ros.core.share import find_model
from xkd_ros.msgs.cloud import decode_cloud
from xkd_ros.msgs.image import decode_image
from xkd_ros.runtime.segmenter import Segmenter

RUN = Path(__file__).with_name("run.py")


@pytest.fixture(scope="session")
def targets() -> Any:
    """The module of the targets, which is run as a program otherwise."""
    sys.path.insert(0, str(RUN.parent))
    try:
        return importlib.import_module("targets")
    finally:
        sys.path.remove(str(RUN.parent))


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.parametrize(
    ("name", "count"),
    [("cloud", 40), ("image", 300), ("livox", 300), ("camera_info", 200), ("bag", 20), ("points_file", 60), ("label_file", 10), ("rig", 40),
     ("card", 20), ("model", 10)],
)  # fmt: skip
def test_mutated_inputs_are_taken_or_refused_with_a_reason(targets: Any, scratch: Path, name: str, count: int) -> None:
    outcomes = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(count):
            refused = targets.TARGETS[name][0](np.random.default_rng([zlib.crc32(name.encode()), number]), scratch)
            outcomes.append(refused)
            assert refused is None or (str(refused) and "\n" not in str(refused)), (number, refused)
    assert any(outcomes), "no input was hard enough"


def test_an_input_that_kills_the_process_is_told_and_does_not_end_the_run(tmp_path: Path) -> None:
    # The runner with a target of its own, whose fourth input ends the process and whose sixth raises.
    for name in ("run.py", "mutation.py"):
        (tmp_path / name).write_bytes(RUN.with_name(name).read_bytes())
    (tmp_path / "targets.py").write_text(
        "import os\n"
        "calls = [-13]\n"
        "def fragile(rng, scratch):\n"
        "    calls[0] += 1\n"
        "    if (scratch / 'died').exists() and calls[0] == 1: raise KeyError('sixth')\n"
        "    if not (scratch / 'died').exists() and calls[0] == 3:\n"
        "        (scratch / 'died').touch(); os._exit(11)\n"
        "TARGETS = {'fragile': (fragile, 1.0)}\n"
    )
    runner = (tmp_path / "run.py").read_text().replace("ROOT = HERE.parents[1]", f"ROOT = Path({str(RUN.parents[2])!r})")
    (tmp_path / "run.py").write_text(runner)
    command = [sys.executable, str(tmp_path / "run.py"), "--only", "fragile", "--count", "8", "--scratch", str(tmp_path / "scratch")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "fragile 3: the process died (11)" in done.stdout and "fragile 5: KeyError: 'sixth'" in done.stdout, done.stdout
    assert "8 inputs, 2 bugs" in done.stdout
    again = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert "8 inputs, 2 bugs" in again.stdout and "0 s in this run" in again.stdout, "resumed at the end: nothing is run again"


# Found by fuzzing


def test_thinning_a_scan_of_which_nothing_lies_in_the_field_of_view() -> None:
    segmenter = Segmenter.load(find_model("indoor-24x64"), "torch", threads=1)
    segmenter.share = 0.3
    assert set(segmenter.segment(np.full((50, 3), 500.0, np.float32), None, np.eye(3)).labels) == {255}


@pytest.mark.parametrize("content", [b"", b"PK", b"junk"])
def test_label_file_that_is_no_archive(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "1.npz").write_bytes(content)
    with pytest.raises(BagError, match="cannot be read"):
        read_labels(tmp_path / "1.npz", "struct4", 30)


def test_label_file_whose_member_is_no_array(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "1.npz", "w") as archive:
        archive.writestr("struct4.npy", b"no array at all")
    with pytest.raises(BagError, match="not as an array"):
        read_labels(tmp_path / "1.npz", "struct4", 30)


@pytest.mark.parametrize("encoding", ["uyvy", "yuv422_yuy2", "nv12"])
def test_odd_width_of_an_encoding_that_shares_colours_between_pixels(encoding: str) -> None:
    header = SimpleNamespace(stamp=SimpleNamespace(sec=0, nanosec=0), frame_id="")
    message = SimpleNamespace(header=header, height=4, width=3, encoding=encoding, is_bigendian=0, step=0, data=bytes(200))
    with pytest.raises(XkdError, match=f"image '{encoding}' cannot be converted"):
        decode_image(message)


@pytest.mark.parametrize("stamp", [{}, {"stamp": 3}, {"stamp": SimpleNamespace(sec=1)}])
def test_header_of_other_definitions_than_those_of_ros(stamp: dict[str, Any]) -> None:
    header = SimpleNamespace(frame_id="", **stamp)
    cloud = SimpleNamespace(header=header, height=0, width=0, point_step=0, row_step=0, fields=[], data=b"", is_bigendian=0, is_dense=1)
    with pytest.raises(XkdError, match="has no stamp as ROS defines it"):
        decode_cloud(cloud)


@pytest.mark.parametrize("number", [1408, 2071])
def test_recordings_that_count_clouds_without_any_or_define_their_own_header(targets: Any, scratch: Path, number: int) -> None:
    targets.bag(np.random.default_rng([zlib.crc32(b"bag"), number]), scratch)
