"""Label a recording offline, through the same code as the node: every topic is copied, the labelled cloud joins it."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from rich.markup import escape
from rich.table import Table

from xkd_ros.bags.calibration import Calibration, find_points, read_calibration
from xkd_ros.bags.folder import Recording, open_recording
from xkd_ros.bags.kitti import KittiWriter
from xkd_ros.bags.odometry import read_track
from xkd_ros.bags.ply import write_ply
from xkd_ros.bags.reader import Record
from xkd_ros.bags.ros2_form import ros2_types
from xkd_ros.bags.writer import BagWriter
from xkd_ros.core.errors import BagError, CloudError
from xkd_ros.core.labels import LabelSet
from xkd_ros.core.rig import load_rig
from xkd_ros.core.types import Scan, Segmentation
from xkd_ros.evaluate.pictures import draw_scan
from xkd_ros.msgs.cloud import decode_cloud
from xkd_ros.msgs.header import frame_id
from xkd_ros.msgs.labelled_cloud import LabelledCloudFormat
from xkd_ros.pipeline.fused_labels import FRESH_MS, FusedLabels
from xkd_ros.pipeline.progress import console, make_progress
from xkd_ros.pipeline.recorded_pictures import RecordedPictures
from xkd_ros.points.levelling import angle_from_up_deg, estimate_levelling
from xkd_ros.points.levelling_filter import LevellingFilter
from xkd_ros.runtime.segmenter import Segmenter

logger = logging.getLogger(__name__)
OUTPUT_TOPIC = "/semantic_points"


def label_bag(
    bag: Path,
    out: Path,
    model: Path,
    pictures: Path | None = None,
    topic: str | None = None,
    backend: str = "auto",
    threads: int | None = None,
    teacher: str | None = None,
    rig: Path | None = None,
    ply: Path | None = None,
    kitti: Path | None = None,
    headings: int = 1,
) -> None:
    """Write a copy of `bag` with `/semantic_points` beside the original topics; print what was found.

    Clouds that cannot be read are copied, counted and named, not fatal.

    Args:
        bag: Recording, or folder of PLY/PCD files.
        out: Bag to write; a name ending in .mcap or .db3 gives a single file.
        model: Model folder.
        pictures: Folder for one PNG per labelled scan.
        topic: Point topic; None takes the only one.
        backend: As for `Segmenter.load`.
        threads: CPU threads.
        teacher: Image teacher that the fused head of the model was trained with, to let pictures have their say; None: they have none.
        rig: Cameras and mounting, where the recording does not hold them.
        ply: Folder for one <stamp_ns>.ply per labelled scan: points with label, probability and colour, without non-returns.
        kitti: Folder for the labelled scans as a sequence of SemanticKITTI; see `KittiWriter`.
        headings: As for `Segmenter.headings`; scans that pictures have their say in are labelled in one.
    Raises:
        BagError, ModelError: named in one line; for a recording that is damaged in the middle when what comes before it is written.
    """
    with console.status(f"loading {model.name}; the first time on a machine its loops are compiled, half a minute"):
        head = FusedLabels.load(model, teacher, backend, threads) if teacher else None
        segmenter = head.fused.segmenter if head else Segmenter.load(model, backend=backend, threads=threads)
    segmenter.headings = headings
    with open_recording(bag) as recording:
        given = load_rig(rig) if rig else None
        points_topic = find_points(recording, topic, given)
        if OUTPUT_TOPIC in recording.topics:
            raise BagError(f"{bag} already has {OUTPUT_TOPIC}; label the original recording")
        seen = RecordedPictures(bag, points_topic, rig, FRESH_MS) if head else None
        calibration = read_calibration(recording, points_topic, given)
        sequence = _kitti_writer(kitti, recording, points_topic, calibration, segmenter.card.labels) if kitti else None
        job = _Labelling(segmenter, calibration.rig.lidar.rotation(), pictures, head, seen, ply, sequence)
        total = sum(info.count for info in recording.topics.values())
        damage: BagError | None = None
        with seen or nullcontext(), sequence or nullcontext(), BagWriter(out) as writer, make_progress() as display:
            task = display.add_task(f"labelling {bag.name or bag}", total=total, note="")
            try:
                for record in recording.records():
                    writer.copy(record)
                    if record.topic == points_topic:
                        job.label(record, writer)
                        display.update(task, note=f"{job.scans} scans")
                    display.advance(task)
            except BagError as error:
                if not job.scans:
                    raise
                damage = error
    job.print_summary(points_topic, out)
    if damage is not None:
        raise BagError(f"{damage}; {out} holds the {job.scans} scans before it") from damage


class _Labelling:
    """The running totals of one job."""

    def __init__(
        self,
        segmenter: Segmenter,
        mounting: np.ndarray | None,
        pictures: Path | None,
        fused: FusedLabels | None,
        seen: RecordedPictures | None,
        ply: Path | None,
        kitti: KittiWriter | None,
    ) -> None:
        self._segmenter, self._pictures, self._fused, self._seen, self._ply = segmenter, pictures, fused, seen, ply
        self._kitti = kitti
        # As the node does with its roll and pitch: a lidar on its side is levelled on top of that.
        self._levelling = None if mounting is None else LevellingFilter(mounting=mounting)
        self._format = LabelledCloudFormat()
        self._types = ros2_types()
        self._label_set = segmenter.card.labels
        self.scans = 0
        self._counts = np.zeros(256, np.int64)
        self._ms: list[float] = []
        self._rejected: dict[str, int] = {}

    def label(self, record: Record, writer: BagWriter) -> None:
        try:
            message = record.message()
            scan = decode_cloud(message)
        except (BagError, CloudError) as error:
            self._rejected[str(error)] = self._rejected.get(str(error), 0) + 1
            return
        rotation = None if self._levelling is None else self._levelling.update(scan.points_m).rotation
        infer = self._fused.infer_with(scan, self._seen.views) if self._fused and self._seen else None
        segmentation = self._segmenter.segment(scan.points_m, scan.intensity, rotation, infer=infer)
        parts = self._format.encode(message, segmentation, self._label_set.palette)
        writer.write(OUTPUT_TOPIC, parts.to_message(message.header, self._types), record.stamp_ns)
        self.scans += 1
        self._counts += np.bincount(segmentation.labels, minlength=256)
        self._ms.append(segmentation.stage_ms["total"])
        if self._ply is not None:
            _save_ply(self._ply / f"{scan.stamp_ns or record.stamp_ns}.ply", scan, segmentation, self._label_set.palette)
        if self._kitti is not None:
            self._kitti.add(scan, segmentation.labels, scan.stamp_ns or record.stamp_ns)
        if self._pictures is not None:
            levelling = estimate_levelling(scan.points_m)
            if rotation is None:
                rotation = levelling.rotation if levelling.trusted else np.eye(3)
            stamp_ns = scan.stamp_ns or record.stamp_ns
            draw_scan(
                self._pictures / f"{stamp_ns}.png",
                scan.points_m @ rotation.T,
                {"predicted": segmentation.labels},
                self._label_set,
                f"{record.topic} {stamp_ns} ns, {len(scan)} points, tilt {angle_from_up_deg(rotation[2]):.1f} deg",
            )

    def print_summary(self, topic: str, out: Path) -> None:
        for reason, count in self._rejected.items():
            console.print(f"[yellow]{count} clouds of {topic} not labelled: {reason}[/]")
        table = Table(title=f"{self.scans} scans of {topic} labelled by {self._segmenter.card.name} ({self._segmenter.backend_name})")
        table.add_column("class")
        table.add_column("points", justify="right")
        table.add_column("share", justify="right")
        total = max(1, int(self._counts.sum()))
        for index in np.argsort(-self._counts):
            if self._counts[index]:
                name = self._label_set.names[index] if index < len(self._label_set) else "unknown"
                table.add_row(name, f"{self._counts[index]:,}", f"{100 * self._counts[index] / total:.1f} %")
        console.print(table)
        for note in self._kitti.notes if self._kitti else ():
            console.print(note, highlight=False)
        for row, value in self._fused.facts().items() if self._fused else ():
            console.print(f"{row}: {value}", highlight=False)
        if self._ms:
            console.print(f"{np.median(self._ms):.0f} ms per scan (median); written to {escape(str(out))}")


def _kitti_writer(folder: Path, recording: Recording, topic: str, calibration: Calibration, labels: LabelSet) -> KittiWriter:
    """Start a sequence with the poses that the recording has."""
    notes: list[str] = []
    cloud = recording.first(topic)
    frame = "" if cloud is None else frame_id(cloud)
    track = read_track(recording, frame, calibration.rig.lidar, calibration.tree, notes)
    writer = KittiWriter(folder, labels, track)
    writer.notes += notes
    return writer


def _save_ply(path: Path, scan: Scan, segmentation: Segmentation, palette: np.ndarray) -> None:
    """Write the measured points of a scan; `--labels` takes the file back after it was corrected in an editor."""
    measured = np.isfinite(scan.points_m).all(axis=1) & scan.points_m.any(axis=1)
    labels = segmentation.labels[measured]
    columns = {axis: scan.points_m[measured, number] for number, axis in enumerate("xyz")}
    columns |= {name: palette[labels, number] for number, name in enumerate(("red", "green", "blue"))}
    columns |= {"label": labels, "probability": segmentation.probability[measured]}
    if scan.intensity is not None:
        columns["intensity"] = scan.intensity[measured]
    write_ply(path, columns)
