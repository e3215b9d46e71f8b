"""Hostile files and messages: nothing is unpickled or run, no file outside its folder is opened, no size is believed unchecked."""

from __future__ import annotations

import ast
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from xkd_ros.core.card import ModelCard, load_card, model_file, save_card
from xkd_ros.core.errors import BagError, CloudError, ConfigError, XkdError
from xkd_ros.core.rig import load_rig
from xkd_ros.msgs.cloud import decode_cloud
from xkd_ros.msgs.image import decode_image

ROOT = Path(__file__).resolve().parents[1]
HEADER = SimpleNamespace(stamp=SimpleNamespace(sec=0, nanosec=0), frame_id="")
SMALL_BYTES = 2_000_000


@contextmanager
def little_memory() -> Iterator[None]:
    """Fail when more is allocated on the way than a header may ask for."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < SMALL_BYTES
    finally:
        tracemalloc.stop()


def huge_cloud(**changes: Any) -> SimpleNamespace:
    fields = [SimpleNamespace(name=name, offset=4 * axis, datatype=7, count=1) for axis, name in enumerate("xyz")]
    cloud = {"height": 65_536, "width": 65_536, "point_step": 12, "row_step": 786_432, "data": bytes(1200)}
    return SimpleNamespace(header=HEADER, fields=fields, is_bigendian=False, is_dense=True, **{**cloud, **changes})


@pytest.mark.parametrize(
    "changes",
    [{}, {"height": 1, "width": 2**32 - 1, "row_step": 0}, {"height": 2**32 - 1, "width": 1}, {"height": 2**32 - 1, "width": 2**32 - 1}],
)
def test_a_header_that_claims_four_billion_points_allocates_nothing(changes: dict[str, int]) -> None:
    with little_memory(), pytest.raises(CloudError):
        decode_cloud(huge_cloud(**changes))


@pytest.mark.parametrize("encoding", ["rgb8", "mono16", "uyvy", "nv12", "bayer_rggb8"])
def test_an_image_that_claims_to_be_huge_allocates_nothing(encoding: str) -> None:
    claims = {"height": 2**31, "width": 2**31, "step": 2**32 - 1, "encoding": encoding, "is_bigendian": 0, "data": bytes(100)}
    with little_memory(), pytest.raises(XkdError):
        decode_image(SimpleNamespace(header=HEADER, **claims))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.ply", b"ply\nformat binary_little_endian 1.0\nelement vertex 4000000000\nproperty float x\nend_header\n1234"),
        ("a.ply", b"ply\nformat ascii 1.0\nelement vertex 4000000000\nproperty float x\nend_header\n1\n"),
        ("a.pcd", b"FIELDS x\nSIZE 4\nTYPE F\nPOINTS 4000000000\nDATA binary\n1234"),
        ("a.pcd", b"FIELDS x\nSIZE 4\nTYPE F\nPOINTS 1000000000\nDATA binary_compressed\n" + b"\x04\0\0\0\x00\x28\x6b\xee" + b"1234"),
    ],
)
def test_a_file_that_claims_four_billion_points_allocates_nothing(tmp_path: Path, name: str, content: bytes) -> None:
    pytest.importorskip("rosbags")
    from xkd_ros.bags.pcd import read_pcd
    from xkd_ros.bags.ply import read_ply

    (tmp_path / name).write_bytes(content)
    with little_memory(), pytest.raises(BagError):
        (read_ply if name.endswith("ply") else read_pcd)(tmp_path / name)


def test_labels_that_unpack_to_more_than_they_should_are_not_unpacked(tmp_path: Path) -> None:
    pytest.importorskip("rosbags")
    from xkd_ros.bags.truth import read_labels

    np.savez_compressed(tmp_path / "1.npz", struct4=np.zeros(50_000_000, np.uint8))  # 50 kB on disk
    with little_memory(), pytest.raises(BagError, match="labels of another recording"):
        read_labels(tmp_path / "1.npz", "struct4", 30)


YAML_RUNS_CODE = "!!python/object/apply:os.mkdir ['{target}']"


def test_yaml_runs_no_code(tmp_path: Path) -> None:
    target = tmp_path / "made by yaml"
    for reader, name in ((load_rig, tmp_path / "rig.yaml"), (lambda path: load_card(path.parent), tmp_path / "card.json")):
        name.write_text("name: " + YAML_RUNS_CODE.format(target=target))
        with pytest.raises(XkdError, match=r"not valid (YAML|JSON)"):
            reader(name)
    assert not target.exists()


def test_yaml_that_grows_by_references_ends_in_an_error(tmp_path: Path) -> None:
    """Ten levels of ten references each: ten billion items, were they ever written out."""
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 10)]
    for place in ("name: *a9", "name: rig\nlidar: {topic: *a9}\ncameras: &b [*b]"):
        (tmp_path / "rig.yaml").write_text("\n".join([*levels, place]))
        code = f"""
import resource
from xkd_ros.core.rig import load_rig
from xkd_ros.core.errors import ConfigError
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
try:
    load_rig({str(tmp_path / "rig.yaml")!r})
except ConfigError as error:
    print(len(str(error)))
"""
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0 and int(done.stdout) < 5000, done.stderr[-500:]


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "sub/../../outside", "link"])
def test_a_card_cannot_name_files_outside_its_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "outside").write_text("secret")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "outside")
    save_card(ModelCard(files={name: "0" * 64}), folder)
    with pytest.raises(XkdError, match="would leave its folder"):
        model_file(folder, load_card(folder), name)


@pytest.mark.parametrize("form", ["relative", "absolute"])
def test_a_recording_cannot_name_files_outside_its_folder(tmp_path: Path, form: str) -> None:
    pytest.importorskip("rosbags")
    from xkd_ros.bags.reader import Bag
    from xkd_ros.bags.writer import BagWriter

    with BagWriter(tmp_path / "outside"):
        pass
    data = next((tmp_path / "outside").glob("*.mcap"))
    folder = tmp_path / "bag"
    folder.mkdir()
    metadata = (tmp_path / "outside" / "metadata.yaml").read_text()
    elsewhere = f"../outside/{data.name}" if form == "relative" else str(data)
    assert data.name in metadata
    (folder / "metadata.yaml").write_text(metadata.replace(data.name, elsewhere))
    with pytest.raises(BagError, match=r"missing: .*/bag/[^/]*mcap"), Bag(folder):  # looked for in the folder itself
        pass


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def constant(call: ast.Call, name: str) -> Any:
    return next((getattr(word.value, "value", None) for word in call.keywords if word.arg == name), None)


FORBIDDEN: dict[str, Callable[[ast.Call], bool]] = {
    "eval": lambda call: True,
    "exec": lambda call: True,
    "os.system": lambda call: True,
    "os.popen": lambda call: True,
    "yaml.load": lambda call: True,
    "torch.load": lambda call: constant(call, "weights_only") is not True,
    "np.load": lambda call: constant(call, "allow_pickle") not in (False, None),
}


def test_no_code_of_ours_unpickles_evaluates_or_starts_a_shell() -> None:
    found = []
    for path in [*(ROOT / "xkd_ros").rglob("*.py"), *(ROOT / "launch").glob("*.py"), *(ROOT / "examples").glob("*.py")]:
        tree = ast.parse(path.read_text())
        imported = {alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        imported |= {str(node.module).split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        found += [f"{path}: imports {name}" for name in imported & {"pickle", "marshal", "shelve", "dill"}]
        for name, call in calls(tree):
            if name in FORBIDDEN and FORBIDDEN[name](call):
                found.append(f"{path}:{call.lineno}: {name}")
            if constant(call, "shell"):
                found.append(f"{path}:{call.lineno}: a shell")
    assert not found


def test_the_search_for_forbidden_calls_finds_them() -> None:
    wrong = ("torch.load(x)", "torch.load(x, weights_only=False)", "np.load(x, allow_pickle=True)", "yaml.load(x, Loader)", "eval(x)")
    for text in wrong:
        ((name, call),) = calls(ast.parse(text))
        assert FORBIDDEN[name](call), text
    for text in ("torch.load(x, weights_only=True)", "np.load(x, mmap_mode='r')", "np.load(x, allow_pickle=False)"):
        ((name, call),) = calls(ast.parse(text))
        assert not FORBIDDEN[name](call), text


def test_weights_that_would_run_code_are_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from xkd_ros.nets.checkpoint import load_foreign

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.mkdir, (tmp_path / "made by pickle",)

    torch.save({"state_dict": Payload()}, tmp_path / "evil.ckpt")
    with pytest.raises(XkdError):
        load_foreign(tmp_path / "evil.ckpt")
    assert not (tmp_path / "made by pickle").exists()


def test_configuration_files_of_any_size_are_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "rig.yaml", "wb") as file:
        file.truncate(5_000_000_000)  # sparse
    with little_memory(), pytest.raises(ConfigError, match="too large"):
        load_rig(tmp_path / "rig.yaml")
