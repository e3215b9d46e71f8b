"""Our clouds as others read them: for each consumer, how it finds and decodes its fields, written anew from its source.

Which files these are, and at which commits, stands in docs/consumers.md.
"""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from xkd_ros.core.labels import INDOOR12
from xkd_ros.core.types import Segmentation
from xkd_ros.msgs.labelled_cloud import LabelledCloudFormat

INT8, UINT8, INT16, UINT16, INT32, UINT32, FLOAT32, FLOAT64 = range(1, 9)
NATIVE = {INT8: "b", UINT8: "B", INT16: "h", UINT16: "H", INT32: "i", UINT32: "I", FLOAT32: "f", FLOAT64: "d"}
PERSON = INDOOR12.names.index("person")
# Fields as the drivers lay them out: (name, offset, datatype).
DRIVERS = {
    "ouster": (
        [("x", 0, 7), ("y", 4, 7), ("z", 8, 7), ("intensity", 16, 7), ("t", 20, 6),
         ("reflectivity", 24, 4), ("ring", 26, 4), ("range", 32, 6)],
        48,
    ),
    "velodyne": ([("x", 0, 7), ("y", 4, 7), ("z", 8, 7), ("intensity", 12, 7), ("ring", 16, 4), ("time", 18, 7)], 22),
    "hesai": ([("x", 0, 7), ("y", 4, 7), ("z", 8, 7), ("intensity", 16, 7), ("timestamp", 24, 8), ("ring", 32, 4)], 48),
}  # fmt: skip


@pytest.fixture(params=list(DRIVERS))
def labelled(request: Any, plain_cloud: Any) -> Any:
    """Encode a cloud of 2 x 5 points of each driver in a profile; return input points, segmentation and output message."""
    fields, step = DRIVERS[request.param]
    rng = np.random.default_rng(4)

    def point(row: int) -> dict[str, Any]:
        numbers = {name: float(rng.uniform(-9, 9)) if kind > UINT32 else int(rng.integers(0, 200)) for name, _, kind in fields}
        return numbers | {"ring": row * 7}

    rows = [[point(row) for _ in range(5)] for row in range(2)]
    cloud = plain_cloud(fields, rows, step)

    def encode(**options: Any) -> tuple[Any, Segmentation, Any]:
        labels = np.array([0, 1, PERSON, 255, 4, 5, PERSON, 7, 8, 11], np.uint8)
        answer = Segmentation(labels, rng.random(10).astype(np.float32), rng.random(10).astype(np.float32))
        message = cloud.message()
        parts = LabelledCloudFormat(**options).encode(message, answer, INDOOR12.palette)
        types = {"sensor_msgs/msg/PointCloud2": SimpleNamespace, "sensor_msgs/msg/PointField": SimpleNamespace}
        output = parts.to_message(message.header, types)
        output.data = bytes(output.data)
        return cloud, answer, output

    return encode


def at(message: Any, offset: int, datatype: int, row: int, column: int) -> Any:
    """`reinterpret_cast` in native byte order."""
    return struct.unpack_from("=" + NATIVE[datatype], message.data, row * message.row_step + column * message.point_step + offset)[0]


def grid(message: Any) -> list[tuple[int, int]]:
    return [(row, column) for row in range(message.height) for column in range(message.width)]


def test_hydra(labelled: Any) -> None:
    """PointcloudAdaptor: the LAST of label and ring is the label and must be an integer; rgb may be FLOAT32 or UINT32."""
    cloud, answer, message = labelled()
    found: dict[str, tuple[int, int]] = {}
    for field in message.fields:
        key = {"rgba": "rgb", "ring": "label"}.get(field.name, field.name)
        if key in ("x", "y", "z", "rgb", "label"):
            found[key] = (field.offset, field.datatype)
    assert {found[axis][1] for axis in "xyz"} <= {FLOAT32, FLOAT64}
    assert found["label"][1] <= UINT32 and found["rgb"][1] in (FLOAT32, UINT32)
    assert [at(message, *found["label"], *place) for place in grid(message)] == answer.labels.tolist()
    assert np.allclose([at(message, *found["x"], *place) for place in grid(message)], cloud.column("x"))
    for place, label in zip(grid(message), answer.labels, strict=True):
        blue, green, red, _ = message.data[place[0] * message.row_step + place[1] * message.point_step + found["rgb"][0] :][:4]
        assert (red, green, blue) == tuple(INDOOR12.palette[label])


# Registered fields of the point types: name to datatype; rgba also matches a FLOAT32 or UINT32 called rgb.
PCL_TYPES = {
    "PointXYZL": {"x": FLOAT32, "y": FLOAT32, "z": FLOAT32, "label": UINT32},
    "PointXYZRGBL": {"x": FLOAT32, "y": FLOAT32, "z": FLOAT32, "rgba": UINT32, "label": UINT32},
    "PointXYZI": {"x": FLOAT32, "y": FLOAT32, "z": FLOAT32, "intensity": FLOAT32},
}


def from_pcl(message: Any, point_type: str) -> dict[str, list[Any]]:
    """fromPCLPointCloud2 up to PCL 1.14: a field is taken where name, datatype and count match; otherwise it is left unset."""
    columns = {}
    for name, datatype in PCL_TYPES[point_type].items():
        for field in message.fields:
            exact = field.name == name and field.datatype == datatype
            colour = name == "rgba" and field.name == "rgb" and field.datatype in (FLOAT32, UINT32)
            if field.count == 1 and (exact or colour):
                columns[name] = [at(message, field.offset, datatype, *place) for place in grid(message)]
                break
    return columns


@pytest.mark.parametrize("point_type", ["PointXYZL", "PointXYZRGBL"])
def test_pcl_labels(labelled: Any, point_type: str) -> None:
    cloud, answer, message = labelled()
    columns = from_pcl(message, point_type)
    assert set(columns) == set(PCL_TYPES[point_type])
    assert columns["label"] == answer.labels.tolist() and np.allclose(columns["z"], cloud.column("z"))
    if point_type == "PointXYZRGBL":
        colours = [((value >> 16) & 255, (value >> 8) & 255, value & 255) for value in columns["rgba"]]
        assert colours == [tuple(INDOOR12.palette[label]) for label in answer.labels]


def test_pcl_label_of_another_type_is_not_found(labelled: Any) -> None:
    """Why UINT32 is the default: the PCL of Ubuntu 24.04 leaves the label unset for every other type."""
    _, _, message = labelled(label_type="UINT8")
    assert "label" not in from_pcl(message, "PointXYZL")


def test_pcl_intensity(labelled: Any) -> None:
    cloud, answer, message = labelled(profile="intensity")
    columns = from_pcl(message, "PointXYZI")
    assert columns["intensity"] == answer.labels.tolist() and np.allclose(columns["y"], cloud.column("y"))


def iterate(message: Any, name: str, datatype: int) -> list[Any]:
    """sensor_msgs::PointCloud2ConstIterator: first field of the name, point_step from point to point, no row_step."""
    field = next(field for field in message.fields if field.name == name)
    assert field.datatype == datatype
    count = len(message.data) // message.point_step
    places = [index * message.point_step + field.offset for index in range(count)]
    return [struct.unpack_from("=" + NATIVE[datatype], message.data, place)[0] for place in places]


def test_autoware_label_based_cluster(labelled: Any) -> None:
    """split_pointcloud: buckets by class_id (UINT8), points below min_probability and classes without a name are left out."""
    cloud, answer, message = labelled(profile="autoware", class_remap={PERSON: 5, 0: 9})
    names, least = {5: "pedestrian"}, 0.3
    datatypes = {field.name: field.datatype for field in message.fields}
    assert datatypes == {"x": FLOAT32, "y": FLOAT32, "z": FLOAT32, "class_id": UINT8, "probability": FLOAT32, "entropy": FLOAT32}
    points = zip(*(iterate(message, axis, FLOAT32) for axis in "xyz"), strict=True)
    bucket = [
        point
        for point, number, probability in zip(
            points, iterate(message, "class_id", UINT8), iterate(message, "probability", FLOAT32), strict=True
        )
        if probability >= least and number in names
    ]
    people = (answer.labels == PERSON) & (answer.probability >= least)
    assert np.allclose(bucket, np.array([cloud.column(axis) for axis in "xyz"]).T[people].astype(np.float32))


def test_autoware_point_struct(labelled: Any) -> None:
    """autoware::point_types::PointXYZCPE laid over the bytes: 24 bytes, class_id at 12."""
    cloud, answer, message = labelled(profile="autoware", class_remap={PERSON: 5, 0: 9})
    assert message.point_step == struct.calcsize("=fffBxxxff") == 24 and message.row_step == message.width * 24
    points = list(struct.iter_unpack("=fffBxxxff", message.data))
    expected = [{PERSON: 5, 0: 9}.get(int(label), 255) for label in answer.labels]
    assert [point[3] for point in points] == expected
    assert np.allclose([point[4] for point in points], answer.probability) and np.allclose([point[5] for point in points], answer.entropy)
    assert np.allclose([point[0] for point in points], cloud.column("x"))


@pytest.mark.parametrize("profile", ["full", "intensity"])
def test_kiss_icp(labelled: Any, profile: str) -> None:
    """PointCloud2ToEigen and GetTimestamps: the last of t, timestamp, time, which must be UINT32, FLOAT32 or FLOAT64."""
    cloud, _, message = labelled(profile=profile)
    for axis in "xyz":
        assert np.allclose(iterate(message, axis, FLOAT32), cloud.column(axis))
    field = [field for field in message.fields if field.name in ("t", "timestamp", "time")][-1]
    assert field.datatype in (UINT32, FLOAT32, FLOAT64)
    assert np.allclose(iterate(message, field.name, field.datatype), cloud.column(field.name))


@pytest.mark.parametrize("channel", ["label", "probability", "entropy"])
def test_rviz(labelled: Any, channel: str) -> None:
    """RGB8 takes the first rgb, three bytes of a FLOAT32; Intensity takes any channel by name; no row_step anywhere."""
    _, answer, message = labelled()
    assert len(message.data) == message.width * message.height * message.point_step
    first = next(field for field in message.fields if field.name == "x")
    assert first.datatype == FLOAT32
    (colour,) = [field for field in message.fields if field.name in ("rgb", "rgba")]
    assert colour.datatype in (INT32, UINT32, FLOAT32)
    for index, label in enumerate(answer.labels):
        value = struct.unpack_from("=I", message.data, index * message.point_step + colour.offset)[0]
        assert ((value >> 16) & 255, (value >> 8) & 255, value & 255) == tuple(INDOOR12.palette[label])
    field = next(field for field in message.fields if field.name == channel)
    expected = {"label": answer.labels, "probability": answer.probability, "entropy": answer.entropy}[channel]
    assert np.allclose(iterate(message, channel, field.datatype), expected)
