"""What a recording holds, what pairs, what is missing for segmentation and for training, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from xkd_ros.bags.calibration import Calibration, find_points, read_calibration
from xkd_ros.bags.cameras import CameraTopics, find_cameras
from xkd_ros.bags.folder import Recording, open_recording
from xkd_ros.bags.frame_checks import check_calibration
from xkd_ros.bags.pairs import match_recording
from xkd_ros.bags.report import BagReport, CameraReport, LidarReport, Need, TopicRow
from xkd_ros.bags.topics import SCANS, UNDECODED_LIDARS
from xkd_ros.core.camera import Camera
from xkd_ros.core.errors import BagError, CloudError
from xkd_ros.core.rig import RigConfig, load_rig
from xkd_ros.core.types import Scan
from xkd_ros.msgs.cloud import INTENSITY_FIELDS, decode_cloud, decode_layout
from xkd_ros.msgs.header import frame_id
from xkd_ros.msgs.image import decode_image
from xkd_ros.msgs.layout import CloudLayout
from xkd_ros.pairing.nearest import NearestPairer

_MS = 1e6
_SCANS_LOOKED_AT = 5
# Below this a spinning lidar sees a shelf or a corner, not a room.
_FEW_POINTS = 1000
# Fewer pairs teach a network one view of one room.
_FEW_PAIRS = 100


def inspect(
    path: str | Path,
    points: str | None = None,
    rig: str | Path | None = None,
    max_dt_ms: float = 50.0,
    seconds: float = 60.0,
) -> BagReport:
    """Look into a recording (`xkd inspect BAG`).

    Args:
        path: Bag, or folder of PLY/PCD files.
        points: Lidar topic; None finds it.
        rig: Rig YAML with calibration that the recording lacks.
        max_dt_ms: Largest |dt| of a pair.
        seconds: Pairs are counted in this much from the start, so that long recordings answer soon.
    Raises:
        BagError: the recording cannot be opened, or has no topic `points`.
    """
    override = None if rig is None else load_rig(rig)
    with open_recording(path) as recording:
        stop_ns = recording.start_ns + round(seconds * 1e9)
        report = BagReport(
            path=str(path),
            size_bytes=_size(recording.path),
            duration_s=recording.duration_s,
            looked_at_s=min(seconds, recording.duration_s),
            max_dt_ms=max_dt_ms,
            topics=[_topic_row(info.name, info.type, info.count, recording.duration_s) for info in recording.topics.values()],
        )
        report.lidars = [_inspect_lidar(recording, info.name) for info in recording.topics.values() if info.type in SCANS and info.count]
        try:
            topic = find_points(recording, points, override)
            choice = ""
        except BagError as error:
            if points is not None:
                raise
            topic, choice = None, str(error)
        _inspect_cameras(recording, report, topic, override, stop_ns)
        _judge(recording, report, topic, choice)
    return report


inspect_bag = inspect


def _topic_row(name: str, kind: str, count: int, duration_s: float) -> TopicRow:
    return TopicRow(name, kind, count, (count - 1) / duration_s if count > 1 and duration_s > 0 else None)


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.iterdir() if file.is_file()]
    return sum(file.stat().st_size for file in files)


def _inspect_lidar(recording: Recording, topic: str) -> LidarReport:
    layout, frame, scans = None, "", []
    try:
        for message in _messages(recording, topic, _SCANS_LOOKED_AT):
            layout, frame = CloudLayout.read(message), frame_id(message)
            scans.append(decode_layout(layout))
    except (CloudError, BagError) as error:
        return LidarReport(topic, frame, _field_texts(layout), layout.point_step if layout else 0, problem=str(error))
    if layout is None:
        return LidarReport(topic, "", (), 0, problem="the recording counts clouds on this topic but holds none: it is damaged")
    counts = sorted(len(scan) for scan in scans)
    points = np.concatenate([scan.points_m for scan in scans])
    returns = np.isfinite(points).all(axis=1) & points.any(axis=1)
    distances = np.linalg.norm(points[returns].astype(np.float64), axis=1)
    values = np.concatenate([scan.intensity for scan in scans if scan.intensity is not None] or [np.zeros(0)])
    rings = np.concatenate([scan.ring for scan in scans if scan.ring is not None] or [np.zeros(0)])
    return LidarReport(
        topic=topic,
        frame_id=frame,
        fields=_field_texts(layout),
        point_step=layout.point_step,
        points=(counts[0], counts[len(counts) // 2], counts[-1]),
        valid_share=float(returns.mean()) if len(returns) else 0.0,
        intensity_field=next((name for name in INTENSITY_FIELDS if layout.find(name)), None),
        intensity=_percentiles(values, (1, 50, 99)),
        beams=len(np.unique(rings)) if len(rings) else None,
        has_time=any(scan.time_s is not None for scan in scans),
        range_m=_percentiles(distances, (50, 95)) or (0.0, 0.0),
    )


def _percentiles(values: np.ndarray, at: tuple[int, ...]) -> Any:
    values = values[np.isfinite(values)]
    return tuple(float(value) for value in np.percentile(values, at)) if len(values) else None


def _field_texts(layout: CloudLayout | None) -> tuple[str, ...]:
    return () if layout is None else tuple(f"{field.name} {field.type_name}@{field.offset}" for field in layout.fields)


def _messages(recording: Recording, topic: str, count: int) -> Iterator[Any]:
    return (message for _, _, message in islice(recording.messages([topic]), count))


def _inspect_cameras(recording: Recording, report: BagReport, points_topic: str | None, override: RigConfig | None, stop_ns: int) -> None:
    calibration = None
    if points_topic is not None:
        calibration = read_calibration(recording, points_topic, override)
        report.notes += calibration.problems
    for topics in find_cameras(recording):
        report.cameras.append(_inspect_camera(recording, topics, points_topic, calibration, report, stop_ns))


def _inspect_camera(
    recording: Recording,
    topics: CameraTopics,
    points_topic: str | None,
    calibration: Calibration | None,
    report: BagReport,
    stop_ns: int,
) -> CameraReport:
    picture = recording.first(topics.image, decode_image)
    if picture is None:
        report.notes.append(f"camera {topics.image}: none of its first pictures can be decoded")
    height, width = (0, 0) if picture is None else picture.rgb.shape[:2]
    known = next((c for c in calibration.rig.cameras if c.topic == topics.image), None) if calibration is not None else None
    if known is not None and points_topic is not None and calibration is not None:
        scans_seen = _readable_scans(recording, points_topic)
        if wrong := check_calibration(scans_seen, calibration.rig.lidar, known, str(recording.path)):
            report.notes.append(str(wrong))
            known = None
    pairs, scans, dt_ms, problem = 0, 0, None, ""
    if points_topic is not None:
        pairer = NearestPairer(round(report.max_dt_ms * _MS))
        for _ in match_recording(recording, pairer, points_topic, [topics.image], stop_ns):
            pass
        statistics = pairer.statistics
        pairs, scans, problem = statistics.pairs, statistics.scans, statistics.explain()
        if statistics.pairs:
            dt_ms = (statistics.dt_ms(50) or 0.0, statistics.dt_ms(95) or 0.0)
    return CameraReport(
        name=topics.name,
        topic=topics.image,
        frame_id=topics.frame_id,
        width=width,
        height=height,
        encoding=recording.first(topics.image, _encoding) or "",
        info=topics.info,
        calibration="" if known is None else _describe(known.camera()),
        calibrated=known is not None,
        pairs=pairs,
        scans=scans,
        dt_ms=dt_ms,
        pairing_problem=problem,
    )


def _readable_scans(recording: Recording, topic: str) -> list[Scan]:
    """Decode the first scans; what is wrong with the others is said where the lidar is."""
    scans = []
    try:
        for message in _messages(recording, topic, _SCANS_LOOKED_AT):
            scans.append(decode_cloud(message))
    except (CloudError, BagError):
        pass
    return scans


def _describe(camera: Camera) -> str:
    middle = camera.K[1, 2]
    edges = camera.unproject(np.array([[0.0, middle], [camera.width - 1.0, middle]]))
    if not np.isfinite(edges).all():
        return f"{camera.model}, image wider than the lens model ({np.degrees(2 * camera.max_angle_rad):.0f} deg)"
    angle = np.degrees(np.arccos(np.clip(edges[0] @ edges[1], -1, 1)))
    return f"{camera.model}, {angle:.0f} deg wide"


def _judge(recording: Recording, report: BagReport, topic: str | None, choice: str) -> None:
    """Say what each use needs and what to do."""
    lidar = next((lidar for lidar in report.lidars if lidar.topic == topic), None)
    if lidar is None:
        hints = [
            f"{info.name} is {info.type}: {UNDECODED_LIDARS[info.type]}"
            for info in recording.topics.values()
            if info.type in UNDECODED_LIDARS
        ]
        todo = "; ".join(hints) or ("name the one to use" if report.lidars else "record a sensor_msgs/PointCloud2 topic")
        report.segmentation = [Need("lidar scans", False, choice or "none", todo)]
    else:
        count = recording.topics[lidar.topic].count
        enough = lidar.points[1] * lidar.valid_share >= _FEW_POINTS
        found = lidar.problem or f"{count} scans of {lidar.points[1]} points on {lidar.topic}, {lidar.valid_share:.0%} returns"
        todo = "" if enough and not lidar.problem else "use the unfiltered topic of the driver, as PointCloud2 with float x, y, z in metres"
        report.segmentation = [Need("lidar scans", enough and not lidar.problem, found, todo)]
        if not lidar.problem and lidar.intensity_field is None:
            report.notes.append(f"{lidar.topic} has no intensity: segmentation then rests on shape alone")
    paired = [camera for camera in report.cameras if camera.pairs]
    calibrated = [camera for camera in report.cameras if camera.calibrated]
    best = max(report.cameras, key=lambda camera: (camera.calibrated, camera.pairs), default=None)
    report.training = [
        *report.segmentation,
        Need(
            "camera",
            bool(report.cameras),
            ", ".join(f"{camera.topic} {camera.width}x{camera.height}" for camera in report.cameras) or "none",
            "" if report.cameras else "record an Image or CompressedImage topic beside the scans",
        ),
        Need(
            "calibration",
            bool(calibrated),
            ", ".join(f"{camera.name}: {camera.calibration}" for camera in calibrated) or "none complete",
            "" if calibrated else "record camera_info and tf_static, or write a rig file and pass --rig",
        ),
        _pairs_need(report, best, bool(paired)),
    ]


def _pairs_need(report: BagReport, best: CameraReport | None, any_pair: bool) -> Need:
    what = f"pairs within {report.max_dt_ms:g} ms"
    if best is None or not any_pair:
        problem = best.pairing_problem if best is not None else "no camera"
        return Need(
            what,
            False,
            problem or "none",
            "record scans and images together with one clock (PTP, or `use_sim_time` off on both)",
        )
    assert best.dt_ms is not None or not best.pairs
    dt = f", |dt| p50 {best.dt_ms[0]:.1f} p95 {best.dt_ms[1]:.1f} ms" if best.dt_ms else ""
    if best.pairs < _FEW_PAIRS and report.looked_at_s >= report.duration_s:
        report.notes.append(f"{best.pairs} pairs are few to learn from: add more recordings (some minutes of driving through every room)")
    return Need(
        what,
        best.pairs > 0,
        f"{best.pairs} of {best.scans} scans with {best.name}{dt}",
        "" if best.pairs else best.pairing_problem,
    )


def _encoding(message: Any) -> str:
    return str(getattr(message, "format", None) or getattr(message, "encoding", ""))
