"""One lidar of one recording, with everything that turns its messages into frames: calibration, poses, labels, body.

`source_survey` opens it, `frame_writer` stores what `read` decodes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from xkd_ros.bags.folder import Recording
from xkd_ros.bags.frame_config import FrameConfig
from xkd_ros.bags.frame_plan import FramePlan, Place, PlannedFrame
from xkd_ros.bags.frame_shard import FARTHEST_M, Draft, Picture, to_millimetres
from xkd_ros.bags.pictures import encode_picture
from xkd_ros.bags.truth import Truth
from xkd_ros.core.errors import BagError, XkdError
from xkd_ros.core.rig import RigConfig
from xkd_ros.core.types import Scan
from xkd_ros.msgs.cloud import decode_cloud
from xkd_ros.pairing.body import BodyMask
from xkd_ros.pairing.deskew import deskew, sweep_ns
from xkd_ros.pairing.pose_track import PoseTrack
from xkd_ros.points.levelling import Levelling, estimate_levelling
from xkd_ros.points.levelling_filter import LevellingFilter


@dataclass(eq=False)
class Chunk:
    """Frames of a stretch of a recording; those that could not be read are None, with the reasons counted in `skipped`."""

    drafts: list[Draft | None] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    unlevelled: int = 0


@dataclass(eq=False)
class FrameSource:
    """A recording seen by one of its lidars.

    Attributes:
        path: The recording.
        name: Unique in the store.
        rig: Its calibration; the cameras are those that make views.
        plan: Which scans and pictures become frames.
        config: How.
        track: Poses of the lidar, or None.
        truth: True labels, or None.
        body: The robot in its scans.
        notes: What a person should know, one line each.
    """

    path: Path
    name: str
    rig: RigConfig
    plan: FramePlan
    config: FrameConfig
    track: PoseTrack | None = None
    truth: Truth | None = None
    body: BodyMask = field(default_factory=lambda: BodyMask(np.zeros((0, 3), np.int32)))
    notes: list[str] = field(default_factory=list)

    @property
    def image_topics(self) -> list[str]:
        """Topics of the cameras, in order."""
        return [camera.topic for camera in self.rig.cameras]

    def mounting(self) -> np.ndarray:
        """Return (3, 3) of the lidar on the robot without yaw, as far as it is known."""
        rotation = self.rig.lidar.rotation()
        return np.eye(3) if rotation is None else rotation

    def has_labels(self) -> bool:
        """Tell whether at least one planned frame has true labels."""
        return self.truth is not None and any(self.truth.file(frame.stamp_ns) is not None for frame in self.plan.frames)

    def leave_out(self, cameras: set[int]) -> None:
        """Forget cameras, by their indices, and the frames that have no other."""
        kept = [index for index in range(len(self.rig.cameras)) if index not in cameras]
        self.rig.cameras = [self.rig.cameras[index] for index in kept]
        frames = [
            replace(frame, pictures=tuple((kept.index(camera), place) for camera, place in frame.pictures if camera in kept))
            for frame in self.plan.frames
        ]
        self.plan.frames = [frame for frame in frames if frame.pictures or self.config.keep_unpaired]

    def read_scan(self, recording: Recording, place: Place) -> Scan:
        """Read one scan.

        Raises:
            XkdError: it is damaged or gone.
        """
        for record in recording.records([place.topic], place.recorded_ns, place.recorded_ns + 1):
            if Place.of(record) == place:
                return replace(decode_cloud(record.message()), stamp_ns=place.stamp_ns)
        raise BagError(f"scan at {place.stamp_ns} ns is no longer in {self.path}")

    def read(self, recording: Recording, frames: Sequence[PlannedFrame]) -> Chunk:
        """Decode consecutive frames of the plan.

        The result depends on these frames and on nothing that was read before: that is what makes an interrupted write resumable.
        """
        chunk = Chunk()
        scans: dict[Place, Draft] = {}
        pictures: dict[Place, bytes] = {}
        wanted = {frame.scan: None for frame in frames} | {place: camera for frame in frames for camera, place in frame.pictures}
        try:
            first, last = min(place.recorded_ns for place in wanted), max(place.recorded_ns for place in wanted)
            for record in recording.records(list(dict.fromkeys(place.topic for place in wanted)), first, last + 1):
                place = Place.of(record)
                if place not in wanted or place in scans or place in pictures:
                    continue
                camera = wanted[place]
                try:
                    if camera is None:
                        scans[place] = self._draft(decode_cloud(record.message()), place.stamp_ns)
                    else:
                        pictures[place] = self.encode(record.message(), camera)
                except _TruthError:
                    raise
                except XkdError as error:
                    chunk.skipped[f"{'scan' if camera is None else 'picture'} unreadable: {error}"] += 1
        except _TruthError as error:
            raise BagError(str(error)) from error
        except BagError as error:
            chunk.skipped[f"lost: {error}"] += sum(frame.scan not in scans for frame in frames)
        for frame in frames:
            chunk.drafts.append(self._join(frame, scans.get(frame.scan), pictures, chunk))
        self._level([draft for draft in chunk.drafts if draft is not None], chunk)
        return chunk

    def measured(self, scan: Scan) -> np.ndarray:
        """Tell (N,) bool which points are measurements of the surroundings, not of the robot, that a store can hold."""
        points = scan.points_m
        with np.errstate(invalid="ignore", over="ignore"):
            size = np.abs(points[:, 0])
            size += np.abs(points[:, 1])
            size += np.abs(points[:, 2])
            # Two millimetres in all are at least one along an axis: what is kept is not zero after rounding.
            return np.asarray((size >= 2e-3) & (size < FARTHEST_M))

    def own_body(self, points_m: np.ndarray) -> np.ndarray:
        """Tell (N,) bool which measurements, as recorded, are the robot's own."""
        config = self.config
        own = self.body.covers(points_m)
        if config.body_radius_m:
            own |= np.einsum("ij,ij->i", points_m, points_m) < config.body_radius_m**2
        if config.body_box_m is not None:
            low, high = np.array(config.body_box_m[:3], np.float32), np.array(config.body_box_m[3:], np.float32)
            own |= ((points_m >= low) & (points_m <= high)).all(axis=1)
        return own

    def _draft(self, scan: Scan, stamp_ns: int) -> Draft:
        """Make a frame without pictures and without levelling."""
        kept = np.flatnonzero(self.measured(scan))
        own = self.own_body(scan.points_m[kept])
        kept = kept[~own]
        try:
            truth = None if self.truth is None else self.truth.labels(scan, stamp_ns)
        except BagError as error:
            # A wrong label file is a mistake to be mended, where a damaged scan is bad luck.
            raise _TruthError(str(error)) from error
        points = scan.points_m[kept]
        world, rate, deskewed = None, None, False
        if self.track is not None and self.track.covers(stamp_ns, stamp_ns):
            world, rate = self.track.pose(stamp_ns), self.track.turn_rate_radps(stamp_ns)
            if self.config.deskew and scan.time_s is not None:
                time_s = scan.time_s[kept]
                deskewed = self.track.covers(*sweep_ns(time_s, stamp_ns))
                points = deskew(points, time_s, stamp_ns, self.track) if deskewed else points
        return Draft(
            stamp_ns=stamp_ns,
            points_mm=to_millimetres(points),
            intensity=None if scan.intensity is None else scan.intensity[kept],
            truth=None if truth is None else truth[kept],
            levelled_from_lidar=self.mounting(),
            world_from_lidar=world,
            turn_rate_radps=rate,
            pictures=(),
            deskewed=deskewed,
            body_points=int(own.sum()),
        )

    def encode(self, message: Any, camera: int) -> bytes:
        """Return a picture of a camera, by its index, as a file; see `encode_picture`."""
        config = self.rig.cameras[camera]
        return encode_picture(message, config.width, config.height, self.config.jpeg_quality)

    def cam_from_scan(self, camera: int, scan_ns: int, picture_ns: int) -> np.ndarray:
        """Return (4, 4): points of a scan, at its stamp, to a camera, by its index, at the time of a picture; as far as poses tell."""
        cam_from_lidar = self.rig.cameras[camera].transform()
        if self.track is not None and self.track.covers(min(scan_ns, picture_ns), max(scan_ns, picture_ns)):
            return cam_from_lidar @ self.track.moved(scan_ns, picture_ns)
        return cam_from_lidar

    def _join(self, frame: PlannedFrame, draft: Draft | None, pictures: dict[Place, bytes], chunk: Chunk) -> Draft | None:
        if draft is None:
            return None
        views = []
        for camera, place in frame.pictures:
            if place not in pictures:
                continue
            cam_from_lidar = self.cam_from_scan(camera, frame.stamp_ns, place.stamp_ns)
            views.append(Picture(camera, cam_from_lidar, place.stamp_ns - frame.stamp_ns, pictures[place]))
        if not views and not self.config.keep_unpaired:
            chunk.skipped["no readable picture"] += 1
            return None
        if not len(draft.points_mm):
            chunk.skipped["scan without a measurement"] += 1
            return None
        return replace(draft, pictures=tuple(views))

    def _level(self, drafts: list[Draft], chunk: Chunk) -> None:
        """Estimate gravity, each scan in the light of its neighbours; scans before the first certain one follow that one."""
        if self.config.levelling == "rig":
            return
        mounting = self.mounting()
        estimates = [estimate_levelling(draft.points_mm.astype(np.float32) / 1000 @ mounting.T.astype(np.float32)) for draft in drafts]
        joined = LevellingFilter()
        for estimate in reversed(estimates):
            joined.push(estimate)
        for draft, estimate in zip(drafts, estimates):
            levelling: Levelling = joined.push(estimate)
            draft.levelled_from_lidar = levelling.rotation @ mounting
            chunk.unlevelled += not levelling.trusted


class _TruthError(XkdError):
    """Labels that do not fit stop the write; scans that cannot be read do not."""
