"""Which topics of a recording form a camera: its pictures, and the CameraInfo that goes with them."""

from __future__ import annotations

from dataclasses import dataclass

from xkd_ros.bags.folder import Recording
from xkd_ros.bags.topics import CAMERA_INFO, IMAGES, TopicInfo
from xkd_ros.msgs.camera_info import base_topic, is_rectified
from xkd_ros.msgs.header import frame_id
from xkd_ros.msgs.image import is_colour


@dataclass(frozen=True)
class CameraTopics:
    """One camera of a recording.

    Attributes:
        name: Short and unique within the recording.
        image: Topic of the pictures.
        info: Topic of the CameraInfo, or None.
        frame_id: Frame of the pictures.
        rectified: The pictures were rectified before they were published.
    """

    name: str
    image: str
    info: str | None
    frame_id: str
    rectified: bool


def find_cameras(recording: Recording) -> list[CameraTopics]:
    """List the cameras; depth images are left out, and of raw and compressed twins the raw one is taken."""
    chosen: dict[str, TopicInfo] = {}
    for info in recording.topics.values():
        if info.type in IMAGES and info.count:
            base = base_topic(info.name)
            if base not in chosen or info.type == IMAGES[0]:
                chosen[base] = info
    infos = {info.name: _frame(recording, info.name) for info in recording.topics.values() if info.type == CAMERA_INFO and info.count}
    cameras: list[CameraTopics] = []
    for base, info in chosen.items():
        message = recording.first(info.name)
        if message is None or not is_colour(message):
            continue
        frame = frame_id(message)
        name = _short_name(base)
        if name in {camera.name for camera in cameras}:
            name = base.strip("/").replace("/", "_")
        cameras.append(CameraTopics(name, info.name, _info_topic(base, frame, infos), frame, is_rectified(base)))
    return cameras


def _short_name(base: str) -> str:
    """Name a camera after its namespace: /front/camera/image_raw is front_camera."""
    return base.strip("/").rpartition("/")[0].replace("/", "_") or "camera"


def _frame(recording: Recording, topic: str) -> str:
    message = recording.first(topic)
    return "" if message is None else frame_id(message)


def _info_topic(base: str, frame: str, infos: dict[str, str]) -> str | None:
    """Find the CameraInfo beside the picture, else the only one with its frame."""
    for candidate in (f"{base.rpartition('/')[0]}/camera_info", f"{base}/camera_info"):
        if candidate in infos:
            return candidate
    same_frame = [topic for topic, info_frame in infos.items() if frame and info_frame == frame]
    return same_frame[0] if len(same_frame) == 1 else None
