"""The answer: the input cloud with a label, a probability, an entropy and a colour behind each point.

A PointCloud2 and its `Segmentation` come in, the bytes and field table of the output cloud go out; next: `nodes` or `bags`.
"""

from __future__ import annotations

import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from xkd_ros.core.errors import CloudError, ConfigError, ShapeError
from xkd_ros.core.types import UNKNOWN, Segmentation
from xkd_ros.msgs.cloud import points_of
from xkd_ros.msgs.layout import DATATYPES, FIELD_TYPES, CloudField, CloudLayout

Profile = Literal["full", "autoware", "intensity"]
LABEL_TYPES = ("UINT8", "UINT16", "UINT32", "INT16", "INT32", "FLOAT32")

_AUTOWARE = (
    CloudField("x", 0, DATATYPES["FLOAT32"]),
    CloudField("y", 4, DATATYPES["FLOAT32"]),
    CloudField("z", 8, DATATYPES["FLOAT32"]),
    CloudField("class_id", 12, DATATYPES["UINT8"]),
    CloudField("probability", 16, DATATYPES["FLOAT32"]),
    CloudField("entropy", 20, DATATYPES["FLOAT32"]),
)
_AUTOWARE_STEP = 24


@dataclass(frozen=True, eq=False)
class CloudParts:
    """Everything of a PointCloud2 but its header.

    Attributes:
        fields: (name, offset, datatype, count) of each PointField.
        data: In the type that rclpy takes fast.
    """

    height: int
    width: int
    fields: list[tuple[str, int, int, int]]
    is_bigendian: bool
    point_step: int
    row_step: int
    data: array.array[int]
    is_dense: bool

    def to_message(self, header: Any, types: Mapping[str, Any]) -> Any:
        """Build the message.

        Args:
            header: The input message's header, kept as it is.
            types: Message classes of PointCloud2 and PointField by ROS type name (see `header.Types`).
        """
        cloud, field = types["sensor_msgs/msg/PointCloud2"], types["sensor_msgs/msg/PointField"]
        # rosbags writes ndarray only; rclpy takes array.array at the speed of memory and ndarray a hundred times slower.
        data = np.frombuffer(self.data, np.uint8) if hasattr(cloud, "__msgtype__") else self.data
        message = cloud(
            header=header,
            height=self.height,
            width=self.width,
            fields=[field(name=name, offset=offset, datatype=kind, count=count) for name, offset, kind, count in self.fields],
            is_bigendian=self.is_bigendian,
            point_step=self.point_step,
            row_step=self.row_step,
            data=data[:0],
            is_dense=self.is_dense,
        )
        message.data = data  # the constructor of rclpy copies twice, its setter once
        return message


class LabelledCloudFormat:
    """How the output cloud is laid out.

    Profiles:
        full: every input field, byte for byte, then label, probability, entropy, rgb; an input field that already has one
            of these names is kept as `<name>_input`.
        autoware: x y z class_id probability entropy at the offsets that Autoware's segmentation consumers expect.
        intensity: every input field, the label written into `intensity` (appended as FLOAT32 where the input has none).
    """

    def __init__(
        self,
        profile: Profile = "full",
        label_field: str = "label",
        label_type: str = "UINT32",
        class_remap: Mapping[int, int] | None = None,
        probability_field: str = "probability",
        entropy_field: str = "entropy",
        rgb_field: str = "rgb",
        reuse_buffer: bool = False,
    ) -> None:
        """Choose the layout.

        Args:
            profile: See the class.
            label_field, probability_field, entropy_field, rgb_field: Names of the appended fields (profile full).
            label_type: Datatype of the label (profile full).
            class_remap: Output id of each class id; classes it does not list become 255. None keeps the ids.
            reuse_buffer: Encode into the same memory each time: the previous `CloudParts` are overwritten, which a node that
                builds its message at once never sees.
        Raises:
            ConfigError: an unknown profile or type, a bad name, or a remap that does not fit the type.
        """
        if profile not in get_args(Profile):
            raise ConfigError(f"output_profile '{profile}' is unknown; use one of {', '.join(get_args(Profile))}")
        if label_type not in LABEL_TYPES:
            raise ConfigError(f"label_type '{label_type}' is unknown; use one of {', '.join(LABEL_TYPES)}")
        names = (label_field, probability_field, entropy_field, rgb_field)
        if len(set(names)) < len(names) or not all(names) or set(names) & {"x", "y", "z"}:
            raise ConfigError(f"output field names {', '.join(map(repr, names))} must be non-empty, different, and not x, y or z")
        self.profile: Profile = profile
        self._names = names
        self._label_datatype = DATATYPES[label_type]
        self._remap = _remap_table(class_remap, "UINT8" if profile == "autoware" else label_type)
        self._buffer: array.array[int] | None = array.array("B") if reuse_buffer else None

    def encode(self, message: Any, segmentation: Segmentation, palette: np.ndarray) -> CloudParts:
        """Write the output cloud.

        Args:
            message: The input PointCloud2.
            segmentation: One answer per input point, in input order.
            palette: (256, 3) uint8 colour of each class id.
        Raises:
            CloudError: the input is malformed, or its intensity field cannot hold a label (profile intensity).
            ShapeError: the number of labels is not the number of points.
        """
        layout = CloudLayout.read(message)
        if len(segmentation.labels) != layout.count:
            raise ShapeError(f"{len(segmentation.labels)} labels for a cloud of {layout.height} x {layout.width} points")
        if self.profile == "autoware":
            fields, step, bigendian = list(_AUTOWARE), _AUTOWARE_STEP, False
        else:
            fields, step = self._appended(layout)
            bigendian = layout.bigendian
        data = self._bytes(layout.count * step)
        if layout.count:
            output = CloudLayout(
                layout.height,
                layout.width,
                tuple(fields),
                bigendian,
                step,
                layout.width * step,
                np.frombuffer(data, np.uint8),
                layout.dense,
            )
            if self.profile == "autoware":
                self._write_autoware(layout, output, segmentation)
            else:
                _copy_points(layout, output)
                self._write_labels(layout, output, segmentation, palette)
        return CloudParts(
            height=layout.height,
            width=layout.width,
            fields=[(field.name, field.offset, field.datatype, field.count) for field in fields],
            is_bigendian=bigendian,
            point_step=step,
            row_step=layout.width * step,
            data=data,
            is_dense=layout.dense,
        )

    def _appended(self, layout: CloudLayout) -> tuple[list[CloudField], int]:
        """Lay the new fields behind the input's, each aligned to its size."""
        if self.profile == "intensity":
            field = layout.find("intensity")
            if field is not None and field.dtype(False).kind in "iu" and self._remap.max() > np.iinfo(field.dtype(False)).max:
                raise CloudError(
                    f"field 'intensity' is {field.type_name} and cannot hold label {self._remap.max()}; use output_profile full"
                )
            wanted = [] if field is not None else [("intensity", DATATYPES["FLOAT32"])]
        else:
            kinds = (self._label_datatype, *(DATATYPES["FLOAT32"],) * 3)
            wanted = list(zip(self._names, kinds))
        if not wanted:
            return list(layout.fields), layout.point_step
        taken = {field.name for field in layout.fields}
        fields = []
        for field in layout.fields:
            name = field.name
            if name in dict(wanted):
                while name in taken:
                    name += "_input"
                taken.add(name)
            fields.append(CloudField(name, field.offset, field.datatype, field.count))
        end = layout.point_step
        for name, datatype in wanted:
            size = np.dtype(FIELD_TYPES[datatype][1]).itemsize
            offset = -(-end // size) * size
            fields.append(CloudField(name, offset, datatype, 1))
            end = offset + size
        # The step keeps the widest field aligned from point to point, as far as the input had it so.
        widest = 8 if layout.point_step % 8 == 0 and any(f.datatype == DATATYPES["FLOAT64"] for f in layout.fields) else 4
        return fields, -(-end // widest) * widest

    def _write_labels(self, layout: CloudLayout, output: CloudLayout, segmentation: Segmentation, palette: np.ndarray) -> None:
        shape = (layout.height, layout.width)
        labels = segmentation.labels.reshape(shape)
        if self.profile == "intensity":
            field = output.find("intensity")
            assert field is not None  # _appended made sure of it
            output.values(field)[...] = self._remap[labels]
            return
        label, probability, entropy, rgb = output.fields[-4:]
        output.values(label)[...] = self._remap[labels]
        output.values(probability)[...] = segmentation.probability.reshape(shape)
        output.values(entropy)[...] = segmentation.entropy.reshape(shape)
        red, green, blue = palette.astype(np.uint32).T
        packed = red << 16 | green << 8 | blue
        # As integers: a float copy could flush these denormal numbers to zero.
        output.view(np.dtype(">u4" if output.bigendian else "<u4"), rgb.offset)[...] = packed[labels]

    def _write_autoware(self, layout: CloudLayout, output: CloudLayout, segmentation: Segmentation) -> None:
        points = points_of(layout).reshape(layout.height, layout.width, 3)
        bytes_ = output.data.reshape(layout.height, layout.width, _AUTOWARE_STEP)
        bytes_[:, :, :12] = np.ascontiguousarray(points.astype("<f4", copy=False)).view(np.uint8).reshape(layout.height, layout.width, 12)
        bytes_[:, :, 12:16] = 0
        for field, values in zip(
            _AUTOWARE[3:],
            (self._remap[segmentation.labels], segmentation.probability, segmentation.entropy),
            strict=True,
        ):
            output.values(field)[...] = values.reshape(layout.height, layout.width)

    def _bytes(self, size: int) -> array.array[int]:
        """Give `size` bytes; their content is undefined when the buffer is reused."""
        if self._buffer is None:
            return array.array("B", [0]) * size
        missing = size - len(self._buffer)
        try:
            if missing > 0:
                self._buffer.frombytes(bytes(missing))
            elif missing < 0:
                del self._buffer[size:]
        except BufferError:
            # Somebody still looks at the last result: leave it alone and start anew.
            self._buffer = array.array("B", [0]) * size
        return self._buffer


def _copy_points(layout: CloudLayout, output: CloudLayout) -> None:
    """Copy each input point as it is, and zero the padding behind it."""
    # As one opaque item per point: copying byte by byte is five times slower.
    point = np.dtype((np.void, layout.point_step))
    output.view(point)[...] = layout.view(point)
    bytes_ = output.data.reshape(output.height, output.width, output.point_step)
    appended = sorted((f.offset, f.offset + f.dtype(False).itemsize) for f in output.fields[len(layout.fields) :])
    end = layout.point_step
    for start, stop in [*appended, (output.point_step, output.point_step)]:
        if start > end:
            bytes_[:, :, end:start] = 0
        end = stop


def _remap_table(remap: Mapping[int, int] | None, label_type: str) -> np.ndarray:
    """Build the (256,) table of output ids."""
    dtype = np.dtype(FIELD_TYPES[DATATYPES[label_type]][1])
    if remap is None:
        return np.arange(256).astype(dtype)
    highest = 2**24 if dtype.kind == "f" else np.iinfo(dtype).max
    wrong = [f"{source}: {target}" for source, target in remap.items() if not (0 <= source <= 255 and 0 <= target <= highest)]
    if wrong:
        raise ConfigError(f"class_remap {{{', '.join(wrong)}}} is out of range; ids are 0 to 255 and {label_type} holds 0 to {highest}")
    table = np.full(256, UNKNOWN, dtype)
    for source, target in remap.items():
        table[source] = target
    return table
