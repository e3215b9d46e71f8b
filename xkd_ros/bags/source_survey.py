"""Open a recording for the frame store: find its rig, poses, labels and pairs, and learn from a sample of its scans.

Comes in: a path, rig files, settings. Goes out: `FrameSource`, and what the sample tells about sizes and intensities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from xkd_ros.bags.calibration import at_image_size, read_calibration
from xkd_ros.bags.folder import Recording, open_recording
from xkd_ros.bags.frame_checks import check_pairs, check_view
from xkd_ros.bags.frame_config import FrameConfig
from xkd_ros.bags.frame_plan import plan_frames
from xkd_ros.bags.frame_source import FrameSource
from xkd_ros.bags.odometry import read_track
from xkd_ros.bags.truth import find_truth, simulation_facts
from xkd_ros.core.errors import BagError, CalibrationError, XkdError
from xkd_ros.core.rig import CameraConfig, RigConfig
from xkd_ros.msgs.header import frame_id
from xkd_ros.msgs.image import decode_image
from xkd_ros.pairing.body import learn_body
from xkd_ros.points.levelling import estimate_levelling

# So many scans, evenly over the recording, tell intensities, sizes and the robot's body.
_SAMPLE = 32
_SEEN_SCANS = 8
_INTENSITIES_PER_SCAN = 8192


@dataclass(eq=False)
class Survey:
    """What a sample of a source's scans tells.

    Attributes:
        source: The source, ready to be read.
        intensities: (n,) float32 of the measurements, or None without intensity.
        points: Mean number of points in a frame.
        point_bytes: Bytes per point on disk.
        picture_bytes: All pictures of the plan, on disk.
    """

    source: FrameSource
    intensities: np.ndarray | None = None
    points: float = 0.0
    point_bytes: int = 0
    picture_bytes: int = 0


@dataclass(eq=False)
class _Sample:
    points: list[np.ndarray] = field(default_factory=list)
    up: list[np.ndarray] = field(default_factory=list)
    floors: list[float | None] = field(default_factory=list)
    intensities: list[np.ndarray] = field(default_factory=list)


def survey_sources(path: Path, rigs: Sequence[RigConfig], labels: Path | None, config: FrameConfig) -> list[Survey]:
    """Open a recording once per lidar.

    Args:
        path: Bag, or folder of PLY/PCD files.
        rigs: Rig files; the one whose lidar the recording has is used, a single one always unless there are several lidars.
        labels: Folder of label files, or None. Of several lidars each has a folder of its own in it, named after the topic:
            `front_points` for /front/points.
        config: Settings.
    Raises:
        BagError: nothing to read, nothing pairs, clocks apart, labels that would go to the scans of two lidars.
        CalibrationError: no calibrated camera, or a calibration that cannot be right.
    """
    with open_recording(path) as recording:
        surveys = [_survey(recording, topic, rigs, labels, config) for topic in config.points or (None,)]
    _check_labels([survey.source for survey in surveys])
    return surveys


def _survey(recording: Recording, topic: str | None, rigs: Sequence[RigConfig], labels: Path | None, config: FrameConfig) -> Survey:
    path = recording.path
    override = _choose_rig(recording, topic, rigs, several=len(config.points) > 1)
    calibration = read_calibration(recording, topic, override)
    rig, notes = calibration.rig, list(calibration.problems)
    rig.lidar.topic = recording.find_points_topic(topic or (rig.lidar.topic if rig.lidar.topic in recording.topics else None))
    if override is None and (name := simulation_facts(path).get("rig")):
        rig.name = str(name)
    if len(config.points) > 1:
        rig.name = f"{rig.name}_{_plain(rig.lidar.topic)}"
    if rigs and override is None:
        notes.append(f"no rig file is of {rig.lidar.topic}: {', '.join(given.name for given in rigs)} not used")
    rig.cameras = _usable_cameras(recording, rig.cameras, notes)
    if not rig.cameras and not config.keep_unpaired:
        raise CalibrationError(f"no calibrated camera in {path}: {'; '.join(notes) or 'it has no camera'}")
    plan = plan_frames(recording, rig.lidar.topic, [camera.topic for camera in rig.cameras], config)
    check_pairs(plan, str(path), rig.lidar.topic, [camera.topic for camera in rig.cameras], not config.keep_unpaired)
    cloud = recording.first(rig.lidar.topic)
    lidar_frame = "" if cloud is None else frame_id(cloud)
    track = read_track(recording, lidar_frame, rig.lidar, calibration.tree, notes)
    if track is not None and not any(track.covers(frame.stamp_ns, frame.stamp_ns) for frame in plan.frames):
        notes.append(f"{track.name}: its poses are not of the time of the scans, not used")
        track = None
    if track is None:
        notes.append("no poses: sweeps stay as they are, and pictures are taken as made at the time of the scan")
    source = FrameSource(path, path.stem, rig, plan, config, track, None, notes=notes + plan.notes)
    for folder in dict.fromkeys((_label_folder(labels, rig.lidar.topic, config), None)):
        # Labels given for other recordings do not hide the ones that a simulation brings along.
        source.truth = find_truth(path, folder, config)
        if source.has_labels():
            break
    return _sample(recording, source)


def _choose_rig(recording: Recording, topic: str | None, rigs: Sequence[RigConfig], several: bool) -> RigConfig | None:
    wanted = {topic} if topic is not None else set(recording.topics)
    fitting = [rig for rig in rigs if rig.lidar.topic in wanted]
    if len(fitting) > 1:
        raise BagError(
            f"rigs {', '.join(rig.name for rig in fitting)} all fit {recording.path}: their lidar topics are in it; give one of them"
        )
    if fitting:
        return fitting[0]
    return rigs[0] if len(rigs) == 1 and not several else None


def _plain(topic: str) -> str:
    """Name a topic as files and rigs can be named."""
    return topic.strip("/").replace("/", "_")


def _label_folder(labels: Path | None, topic: str, config: FrameConfig) -> Path | None:
    if labels is None or not any((labels / _plain(point)).is_dir() for point in config.points):
        return labels
    own = labels / _plain(topic)
    return own if own.is_dir() else None


def _check_labels(sources: Sequence[FrameSource]) -> None:
    """Refuse labels that scans of two lidars lay claim to: a stamp alone does not tell whose points they name."""
    owners: dict[Path, str] = {}
    for source in sources if len(sources) > 1 else ():
        topic = source.rig.lidar.topic
        for frame in source.plan.frames:
            file = None if source.truth is None else source.truth.file(frame.stamp_ns)
            if file is not None and owners.setdefault(file, topic) != topic:
                both = owners[file], topic
                raise BagError(
                    f"{file} has the stamp of a scan of {' and of '.join(both)}: labels of each lidar belong in a folder of its own,"
                    f" {' and '.join(map(_plain, both))}"
                )


def _usable_cameras(recording: Recording, cameras: Sequence[CameraConfig], notes: list[str]) -> list[CameraConfig]:
    """Keep the cameras that the recording has, their intrinsics at the size of its pictures."""
    usable = []
    for config in cameras:
        if config.topic not in recording.topics or not recording.topics[config.topic].count:
            continue
        camera = at_image_size(config.camera(), recording.first(config.topic, decode_image), config.topic, notes)
        size = {"width": camera.width, "height": camera.height, "K": camera.K.reshape(-1).tolist()}
        usable.append(config.model_copy(update=size))
    return usable


def _sample(recording: Recording, source: FrameSource) -> Survey:
    """Look at some scans: sizes, intensities, whether the cameras see the points, and the robot's body."""
    survey, sample, config = Survey(source), _Sample(), source.config
    frames = source.plan.frames
    mounting = source.mounting()
    for index in np.unique(np.linspace(0, len(frames) - 1, min(_SAMPLE, len(frames))).astype(int)) if frames else ():
        try:
            scan = source.read_scan(recording, frames[index].scan)
        except XkdError:
            continue  # counted when the frames are written
        valid = source.measured(scan)
        points = scan.points_m[valid]
        if not len(points):
            continue
        levelling = estimate_levelling(points @ mounting.T.astype(np.float32))
        rotation = levelling.rotation @ mounting
        sample.floors.append(levelling.floor_height_m if levelling.trusted else None)
        sample.points.append(points)
        sample.up.append(rotation[2])
        if scan.intensity is not None:
            sample.intensities.append(scan.intensity[valid][:: max(1, len(points) // _INTENSITIES_PER_SCAN)])
    if not sample.points and frames:
        raise BagError(f"{source.path}: not one of the first scans of {source.rig.lidar.topic} can be read, or none holds a measurement")
    if config.check_view:
        _check_cameras(source, sample)
    if config.learn_body_m and frames:
        source.body = learn_body(*_with_floor(sample, source.rig.lidar.height_m), config.learn_body_m)
        if source.body.reason:
            source.notes.append(f"the robot's own body was not looked for: {source.body.reason}")
    survey.intensities = np.concatenate(sample.intensities) if sample.intensities else None
    survey.points = float(np.mean([np.count_nonzero(~source.own_body(points)) for points in sample.points])) if sample.points else 0.0
    survey.point_bytes = _point_bytes(source, sample)
    survey.picture_bytes = _picture_bytes(recording, source)
    return survey


def _with_floor(sample: _Sample, lidar_height_m: float | None) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the scans whose floor is known and the height of their points above it; a robot carries its lidar at one height."""
    seen = [floor for floor in sample.floors if floor is not None]
    usual = float(np.median(seen)) if seen else None if lidar_height_m is None else -lidar_height_m
    floors = [usual if floor is None else floor for floor in sample.floors]
    known = [index for index, floor in enumerate(floors) if floor is not None]
    heights = [sample.points[index] @ sample.up[index].astype(np.float32) - np.float32(floors[index] or 0.0) for index in known]
    return [sample.points[index] for index in known], heights


def _check_cameras(source: FrameSource, sample: _Sample) -> None:
    """Leave out cameras that see nothing while another one does."""
    errors: dict[int, CalibrationError] = {}
    for index, camera in enumerate(source.rig.cameras):
        error = check_view(sample.points[:_SEEN_SCANS], sample.up[:_SEEN_SCANS], camera, source.config.min_depth_m, str(source.path))
        if error is not None and "inverted" in str(error):
            raise error
        if error is not None:
            errors[index] = error
    if errors and len(errors) == len(source.rig.cameras):
        raise errors[0]
    if errors:
        source.notes += [f"{error}; left out" for error in errors.values()]
        source.leave_out(set(errors))


def _point_bytes(source: FrameSource, sample: _Sample) -> int:
    far = max((float(np.abs(points).max()) for points in sample.points), default=0.0) * 1000 > np.iinfo(np.int16).max
    values = np.concatenate(sample.intensities) if sample.intensities else np.zeros(0, np.float32)
    with np.errstate(over="ignore"):
        exact = np.array_equal(values.astype(np.float16).astype(np.float32), values, equal_nan=True)
    return 3 * (4 if far else 2) + (2 if exact else 4) * bool(len(values)) + (source.truth is not None)


def _picture_bytes(recording: Recording, source: FrameSource) -> int:
    """Sum the sizes of compressed pictures; raw ones are judged by the first."""
    total = 0.0
    for index, camera in enumerate(source.rig.cameras):
        places = [place for frame in source.plan.frames for number, place in frame.pictures if number == index]
        if not places:
            continue
        message = recording.first(camera.topic)
        raw = hasattr(message, "encoding")
        total += len(places) * len(source.encode(message, index)) if raw else sum(place.size for place in places)
    return round(total)
