"""The pictures next to a scan of a recording, calibrated, as a frame store would hold them; for the fused head."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from xkd_ros.bags.folder import open_recording
from xkd_ros.bags.frame import View
from xkd_ros.bags.frame_config import FrameConfig
from xkd_ros.bags.frame_plan import Place
from xkd_ros.bags.source_survey import survey_sources
from xkd_ros.core.errors import BagError, CalibrationError, XkdError
from xkd_ros.core.rig import load_rig


class RecordedPictures:
    """Pairs scans and pictures by their stamps at first, and reads a picture when it is asked for; a context manager."""

    def __init__(self, path: Path, points_topic: str, rig: Path | None, max_dt_ms: float) -> None:
        """Open the recording beside whoever reads its scans.

        Args:
            path: The recording.
            points_topic: Of the scans.
            rig: Rig YAML instead of the recording's own calibration.
            max_dt_ms: Largest time between scan and picture.
        Raises:
            BagError: the recording cannot be read.
            CalibrationError: it has no calibrated camera, or one whose calibration cannot be right.
        """
        rigs = [] if rig is None else [load_rig(rig)]
        for given in rigs:
            given.lidar.topic = points_topic
        config = FrameConfig(points=(points_topic,), max_dt_ms=max_dt_ms, keep_unpaired=True, learn_body_m=0)
        self._source = survey_sources(path, rigs, None, config)[0].source
        if not self._source.rig.cameras:
            raise CalibrationError(f"no calibrated camera in {path}: {'; '.join(self._source.notes) or 'it has no camera'}")
        self._planned = {frame.stamp_ns: frame for frame in self._source.plan.frames}
        self._recording = open_recording(path)

    def __enter__(self) -> RecordedPictures:
        self._recording.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._recording.__exit__(kind, error, trace)

    def views(self, stamp_ns: int, lidar_frame: str) -> tuple[tuple[View, ...], str]:
        """Read the pictures of a scan.

        Args:
            stamp_ns: Of the scan's header.
            lidar_frame: Of the scan; the calibration knows it already.
        Returns:
            The pictures; and why there is none, "" where there is one.
        """
        frame = self._planned.get(stamp_ns)
        if frame is None or not frame.pictures:
            return (), f"no picture within {self._source.config.max_dt_ms:g} ms of the scan"
        views, reasons = [], []
        for index, place in frame.pictures:
            camera = self._source.rig.cameras[index]
            try:
                encoded = self._source.encode(self._message(place), index)
            except XkdError as error:
                reasons.append(str(error))
                continue
            transform = self._source.cam_from_scan(index, stamp_ns, place.stamp_ns)
            views.append(View(camera.name, camera.camera(), transform, place.stamp_ns - stamp_ns, encoded))
        return tuple(views), "; ".join(reasons)

    def _message(self, place: Place) -> object:
        for record in self._recording.records([place.topic], place.recorded_ns, place.recorded_ns + 1):
            if Place.of(record) == place:
                return record.message()
        raise BagError(f"picture at {place.stamp_ns} ns is no longer in {self._source.path}")
