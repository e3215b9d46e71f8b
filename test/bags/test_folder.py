from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xkd_ros.bags.folder import ScanFolder, open_recording
from xkd_ros.bags.pcd import decompress_lzf, read_pcd
from xkd_ros.bags.ply import read_ply
from xkd_ros.bags.reader import Bag
from xkd_ros.core.errors import BagError
from xkd_ros.msgs.cloud import decode_cloud, field_names

POINT = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "u1"), ("ring", "<u2"), ("score", "<f8")])
PCD_KINDS = ("ascii", "binary", "binary_compressed")
PLY_KINDS = ("ascii", "binary_little_endian", "binary_big_endian")


def make_points(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    points = np.zeros(count, POINT)
    for axis in "xyz":
        points[axis] = rng.normal(scale=5, size=count).round(3)
    points["intensity"], points["ring"], points["score"] = rng.integers(0, 256, count), rng.integers(0, 64, count), rng.random(count)
    if count:
        points["x"][0] = np.nan
    return points


def compress_lzf(data: bytes) -> bytes:
    """A plain, greedy compressor: literals, and references to the last place where the next three bytes stood."""
    packed, literals, last, i = bytearray(), bytearray(), {}, 0

    def flush() -> None:
        for start in range(0, len(literals), 32):
            piece = literals[start : start + 32]
            packed.append(len(piece) - 1)
            packed.extend(piece)
        literals.clear()

    while i < len(data):
        key = data[i : i + 3]
        place = last.get(key, -1) if len(key) == 3 else -1
        last[key] = i
        if place < 0 or i - place > 8192:
            literals.append(data[i])
            i += 1
            continue
        length = 3
        while length < 264 and i + length < len(data) and data[place + length] == data[i + length]:
            length += 1
        flush()
        distance = i - place - 1
        if length - 2 < 7:
            packed.append((length - 2) << 5 | distance >> 8)
        else:
            packed += bytes([7 << 5 | distance >> 8, length - 9])
        packed.append(distance & 255)
        i += length
    flush()
    return bytes(packed)


def lines(points: np.ndarray) -> bytes:
    return "".join(" ".join(repr(float(value)) for value in point) + "\n" for point in points.tolist()).encode()


def pcd_bytes(points: np.ndarray, kind: str) -> bytes:
    # A padding field of three bytes stands before the last one, as PCL writes it.
    header = (
        "# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS x y z intensity ring _ score\n"
        "SIZE 4 4 4 1 2 1 8\nTYPE F F F U U U F\n"
        f"COUNT 1 1 1 1 1 3 1\nWIDTH {len(points)}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(points)}\nDATA {kind}\n"
    ).encode()
    if kind == "ascii":
        return header + b"".join(
            (" ".join([*(repr(float(v)) for v in point[:5]), "0 0 0", repr(float(point[5]))]) + "\n").encode() for point in points.tolist()
        )
    if kind == "binary":
        padded = np.zeros(len(points), [*POINT.descr[:5], ("pad", "V3"), POINT.descr[5]])
        for name in POINT.names:
            padded[name] = points[name]
        return header + padded.tobytes()
    planes = b"".join(points[name].tobytes() for name in POINT.names[:5]) + bytes(3 * len(points)) + points["score"].tobytes()
    packed = compress_lzf(planes)
    return header + struct.pack("<II", len(packed), len(planes)) + packed


def ply_bytes(points: np.ndarray, kind: str) -> bytes:
    names = {"<f4": "float", "|u1": "uchar", "<u2": "ushort", "<f8": "double"}
    properties = "".join(f"property {names[code]} {'scalar_Intensity' if name == 'intensity' else name}\n" for name, code in POINT.descr)
    faces = "element face 1\nproperty list uchar int vertex_indices\n"
    header = f"ply\nformat {kind} 1.0\ncomment made by a test\nelement vertex {len(points)}\n{properties}{faces}end_header\n"
    if kind == "ascii":
        return header.encode() + lines(points) + b"3 0 1 2\n"
    body = points.astype(POINT.newbyteorder(">")) if "big" in kind else points
    return header.encode() + body.tobytes() + b"\3" + bytes(12)


@pytest.mark.parametrize("count", [0, 1, 300])
@pytest.mark.parametrize("kind", PCD_KINDS)
def test_pcd_of_every_kind(tmp_path: Path, kind: str, count: int) -> None:
    points = make_points(count)
    path = tmp_path / "a.pcd"
    path.write_bytes(pcd_bytes(points, kind))
    columns = read_pcd(path)
    assert list(columns) == list(POINT.names)
    for name in POINT.names:
        np.testing.assert_array_equal(columns[name], points[name])
        assert columns[name].dtype == POINT[name]


@pytest.mark.parametrize("count", [0, 1, 300])
@pytest.mark.parametrize("kind", PLY_KINDS)
def test_ply_of_every_kind(tmp_path: Path, kind: str, count: int) -> None:
    points = make_points(count)
    path = tmp_path / "a.ply"
    path.write_bytes(ply_bytes(points, kind))
    columns = read_ply(path)
    assert list(columns) == ["x", "y", "z", "scalar_Intensity", "ring", "score"]
    for name, found in zip(POINT.names, columns.values()):
        np.testing.assert_array_equal(found, points[name])
        assert found.dtype == POINT[name] and found.dtype.isnative


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.binary(max_size=400), st.lists(st.sampled_from([b"abcabc", b"xyz", b"\0" * 300, b"q"]), max_size=12).map(b"".join)))
def test_lzf_gives_back_what_was_packed(data: bytes) -> None:
    assert decompress_lzf(compress_lzf(data), len(data)) == data


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from([*PCD_KINDS, *PLY_KINDS]), data=st.data())
def test_damaged_files_are_named_and_never_fill_the_memory(tmp_path: Path, kind: str, data: Any) -> None:
    is_pcd = kind in PCD_KINDS
    if kind == "ascii":
        is_pcd = data.draw(st.booleans())
    content = bytearray((pcd_bytes if is_pcd else ply_bytes)(make_points(20), kind))
    path = tmp_path / ("a.pcd" if is_pcd else "a.ply")
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + 1] = data.draw(st.sampled_from([b"", b"9", b"\n", b"\xff", b"0000000000", b" "]))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        columns = (read_pcd if is_pcd else read_ply)(path)
    except BagError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    else:
        assert len({len(values) for values in columns.values()}) <= 1
        assert sum(values.nbytes for values in columns.values()) < 100_000


XYZ_PCD = b"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\n"
XYZ_PLY = b"property float x\nproperty float y\nproperty float z\nend_header\n"
LITTLE = b"ply\nformat binary_little_endian 1.0\n"
DAMAGED = [
    ("a.pcd", b"nothing", "no DATA line"),
    ("a.pcd", XYZ_PCD + b"WIDTH 4000000000\nHEIGHT 1\nDATA binary\n123", "promises 4000000000 points of 12 bytes but holds 3"),
    ("a.pcd", XYZ_PCD + b"POINTS 4000000000\nDATA ascii\n1 2 3\n", "promises 4000000000 points of 3 numbers"),
    ("a.pcd", XYZ_PCD + b"POINTS 2\nDATA ascii\n1 2 3\n1 two 3\n", "not 3 numbers"),
    ("a.pcd", XYZ_PCD + b"POINTS 2\nDATA ascii\n1 2 3        \n\n", "promises 2 points but holds 1"),
    ("a.pcd", XYZ_PCD + b"POINTS 9\nDATA binary_compressed\n\2\0\0\0\x6c\0\0\0\1", "cut off or damaged"),
    ("a.pcd", XYZ_PCD + b"POINTS 9\nDATA binary_compressed\n\2\0\0\0\x6c\0\0\0\0\1", "damaged compressed data"),
    ("a.pcd", XYZ_PCD + b"POINTS 90\nDATA binary_compressed\n\2\0\0\0\x38\4\0\0\0\1", "cut off or damaged"),
    ("a.pcd", b"FIELDS x y\nSIZE 4 4 4\nTYPE F F F\nPOINTS 1\nDATA ascii\n1 2 3\n", "damaged PCD header"),
    ("a.pcd", XYZ_PCD + b"POINTS 1\nDATA gzip\n1 2 3\n", "DATA gzip; known are ascii"),
    ("a.pcd", XYZ_PCD.replace(b"z", b"w") + b"POINTS 1\nDATA ascii\n1 2 3\n", r"no column z \(columns: x, y, w\)"),
    ("a.ply", b"solid", "is not a PLY file"),
    ("a.ply", b"ply\nformat ascii 1.0\nelement vertex 9\n" + XYZ_PLY + b"1 2 3\n", "promises 9"),
    ("a.ply", LITTLE + b"element vertex 5\n" + XYZ_PLY + b"1", "promises 5 points of 12 bytes"),
    ("a.ply", LITTLE + b"element face 1\nproperty list uchar int v\nelement vertex 1\n" + XYZ_PLY, "vertices first"),
    ("a.ply", LITTLE + b"element vertex 1\nproperty list uchar int x\nend_header\n1 2\n", "damaged PLY header"),
]


@pytest.mark.parametrize(("name", "content", "text"), DAMAGED, ids=[text for _, _, text in DAMAGED])
def test_each_kind_of_damage_is_named(tmp_path: Path, name: str, content: bytes, text: str) -> None:
    (tmp_path / name).write_bytes(content)
    with open_recording(tmp_path) as folder, pytest.raises(BagError, match=text):
        list(folder.scans())


def test_a_folder_reads_like_a_bag(tmp_path: Path) -> None:
    # Numbers in names are numbers: 10 comes after 9.
    for number in (8, 9, 10):
        suffix, content = (
            ("PCD", pcd_bytes(make_points(5, number), "binary")) if number % 2 else ("ply", ply_bytes(make_points(5, number), "ascii"))
        )
        (tmp_path / f"scan_{number}.{suffix}").write_bytes(content)
    (tmp_path / "readme.txt").write_text("not a scan")
    with open_recording(tmp_path) as folder:
        assert isinstance(folder, ScanFolder) and folder.find_points_topic() == "/points"
        scans = list(folder.scans())
        stamps = [stamp for _, stamp, _ in folder.messages()]
        records = list(folder.records(["/points"], start_ns=stamps[1]))
        assert folder.topics["/points"].count == 3 and folder.duration_s == pytest.approx(0.2)
        with pytest.raises(BagError, match="has no topic /lidar; its scans are /points"):
            list(folder.messages(["/lidar"]))
    assert stamps == [scan.stamp_ns for scan in scans] == [1_000_000_000, 1_100_000_000, 1_200_000_000] and len(records) == 2
    for number, scan in zip((8, 9, 10), scans):
        points = make_points(5, number)
        np.testing.assert_array_equal(scan.points_m, np.stack([points[axis] for axis in "xyz"], axis=1))
        np.testing.assert_array_equal(scan.intensity, points["intensity"].astype(np.float32))
        np.testing.assert_array_equal(scan.ring, points["ring"])
    message = records[1].message()
    assert field_names(message) == ["x", "y", "z", "intensity", "ring", "score"]
    np.testing.assert_array_equal(decode_cloud(message).points_m, scans[2].points_m)


def test_times_in_file_names_are_kept(tmp_path: Path) -> None:
    for folder_name, names, stamps in (
        ("nanoseconds", ("1614000000000000000", "1614000000100000001"), [1_614_000_000_000_000_000, 1_614_000_000_100_000_001]),
        ("seconds", ("1614000003.25", "1614000003_5"), [1_614_000_003_250_000_000, 1_614_000_003_500_000_000]),
    ):
        (tmp_path / folder_name).mkdir()
        for name in names:
            (tmp_path / folder_name / f"{name}.pcd").write_bytes(pcd_bytes(make_points(2), "ascii"))
        with open_recording(tmp_path / folder_name) as folder:
            assert [scan.stamp_ns for scan in folder.scans()] == stamps


def test_one_file_is_a_recording_of_one_scan(tmp_path: Path) -> None:
    path = tmp_path / "only.ply"
    path.write_bytes(ply_bytes(make_points(4), "ascii"))
    with open_recording(path) as folder:
        assert [len(scan) for scan in folder.scans()] == [4]


def test_what_is_neither_is_a_bag_error(tmp_path: Path, bags: dict[str, Path]) -> None:
    assert isinstance(open_recording(bags["mcap"]), Bag)
    with pytest.raises(BagError, match=r"no metadata.yaml"):
        open_recording(tmp_path)
    with pytest.raises(BagError, match="does not exist"):
        open_recording(tmp_path / "x")
    with pytest.raises(BagError, match=r"holds no .pcd or .ply files"):
        ScanFolder(tmp_path)


def test_a_folder_copies_into_a_bag(tmp_path: Path) -> None:
    from xkd_ros.bags.writer import BagWriter

    (tmp_path / "clouds").mkdir()
    (tmp_path / "clouds" / "1.pcd").write_bytes(pcd_bytes(make_points(5), "binary_compressed"))
    with open_recording(tmp_path / "clouds") as folder, BagWriter(tmp_path / "out.mcap") as writer:
        for record in folder.records():
            writer.copy(record)
    with Bag(tmp_path / "out.mcap") as bag:
        np.testing.assert_array_equal(next(bag.scans()).ring, make_points(5)["ring"])
