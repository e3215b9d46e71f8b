"""The memory layout of a PointCloud2: what lies where, checked once before anything is read or allocated.

A message comes in, strided views on its bytes go out; next: `cloud` (numbers) and `labelled_cloud` (the answer).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from xkd_ros.core.errors import CloudError

FIELD_TYPES: dict[int, tuple[str, str]] = {
    1: ("INT8", "i1"),
    2: ("UINT8", "u1"),
    3: ("INT16", "i2"),
    4: ("UINT16", "u2"),
    5: ("INT32", "i4"),
    6: ("UINT32", "u4"),
    7: ("FLOAT32", "f4"),
    8: ("FLOAT64", "f8"),
}
"""sensor_msgs/PointField datatype to its ROS name and numpy code."""

DATATYPES: dict[str, int] = {name: number for number, (name, _) in FIELD_TYPES.items()}


@dataclass(frozen=True)
class CloudField:
    """One sensor_msgs/PointField."""

    name: str
    offset: int
    datatype: int
    count: int = 1

    @property
    def type_name(self) -> str:
        """ROS name of the datatype, for messages to people."""
        return FIELD_TYPES[self.datatype][0] if self.datatype in FIELD_TYPES else f"unknown datatype {self.datatype}"

    def dtype(self, bigendian: bool) -> np.dtype:
        """Return the numpy type of one element in this byte order."""
        return np.dtype((">" if bigendian else "<") + FIELD_TYPES[self.datatype][1])


@dataclass(frozen=True, eq=False)
class CloudLayout:
    """Sizes, fields and bytes of one cloud whose numbers agree with each other.

    Attributes:
        height, width: Rows and points per row; an unorganised cloud has one row.
        fields: In message order.
        bigendian: Byte order of all numbers.
        point_step, row_step: Bytes from point to point and from row to row.
        data: (bytes,) uint8 view on the message.
        dense: What the sender says about NaN.
    """

    height: int
    width: int
    fields: tuple[CloudField, ...]
    bigendian: bool
    point_step: int
    row_step: int
    data: np.ndarray
    dense: bool

    @classmethod
    def read(cls, message: Any) -> CloudLayout:
        """Check a PointCloud2 of rclpy or rosbags.

        Raises:
            CloudError: not a PointCloud2, or sizes that contradict each other.
        """
        try:
            height, width = int(message.height), int(message.width)
            point_step, row_step = int(message.point_step), int(message.row_step)
            fields = tuple(CloudField(str(f.name), int(f.offset), int(f.datatype), int(f.count)) for f in message.fields)
            bigendian, dense = bool(message.is_bigendian), bool(message.is_dense)
            data = _as_bytes(message.data)
        except (AttributeError, TypeError) as error:
            raise CloudError(f"{type(message).__name__} is not a PointCloud2 ({error}); choose a topic of type PointCloud2") from error
        if min(height, width, point_step, row_step) < 0:
            raise CloudError(f"cloud of {height} x {width} points with point_step {point_step}, row_step {row_step} has negative sizes")
        if height * width:
            # One row needs no row_step, and some drivers leave it 0 there.
            if row_step == 0 and height == 1:
                row_step = width * point_step
            _check_sizes(height, width, point_step, row_step, len(data))
        return cls(height, width, fields, bigendian, point_step, row_step, data, dense)

    @property
    def count(self) -> int:
        """Number of points."""
        return self.height * self.width

    def find(self, name: str) -> CloudField | None:
        """Return the field of this name, checked to lie inside the point, or None.

        Raises:
            CloudError: two fields of this name, an unknown datatype, or bytes beyond the point.
        """
        found = [field for field in self.fields if field.name == name]
        if not found:
            return None
        field = found[0]
        if len(found) > 1:
            raise CloudError(f"cloud has {len(found)} fields named '{name}'; the driver must name each field once")
        if field.datatype not in FIELD_TYPES:
            raise CloudError(f"field '{name}' has {field.type_name}; PointField knows 1 (INT8) to 8 (FLOAT64)")
        # Some drivers write count 0 for a single value.
        end = field.offset + max(field.count, 1) * field.dtype(False).itemsize
        if field.offset < 0 or field.count < 0 or end > self.point_step:
            raise CloudError(f"field '{name}' ({field.type_name}) ends at byte {end} of a point of {self.point_step} bytes (point_step)")
        return field

    def values(self, field: CloudField) -> np.ndarray:
        """Return the first element of a field of every point as (height, width) view in the message's byte order."""
        return self.view(field.dtype(self.bigendian), field.offset)

    def view(self, dtype: np.dtype, offset: int = 0) -> np.ndarray:
        """View `dtype` at `offset` of every point, (height, width), unaligned where the message is."""
        return np.ndarray((self.height, self.width), dtype, self.data, offset, (self.row_step, self.point_step))


def field_names(message: Any) -> list[str]:
    """List the field names of a PointCloud2 in message order."""
    return [str(field.name) for field in message.fields]


def _check_sizes(height: int, width: int, point_step: int, row_step: int, available: int) -> None:
    if point_step == 0:
        raise CloudError(f"cloud of {height} x {width} points has point_step 0; the driver must fill it")
    if row_step < width * point_step:
        raise CloudError(f"row_step {row_step} is smaller than width {width} x point_step {point_step} = {width * point_step}")
    needed = (height - 1) * row_step + width * point_step
    if available < needed:
        raise CloudError(f"cloud of {height} x {width} points needs {needed} bytes, data holds {available}: the message is cut off")


def _as_bytes(data: Any) -> np.ndarray:
    if isinstance(data, np.ndarray) and data.dtype == np.uint8:
        return np.ascontiguousarray(data).reshape(-1)
    if len(data) == 0:
        return np.zeros(0, np.uint8)
    try:
        return np.frombuffer(data, np.uint8)
    except (TypeError, ValueError):
        return np.array(data, np.uint8)
