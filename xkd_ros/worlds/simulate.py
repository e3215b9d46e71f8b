"""`xkd simulate`: a building's recording as an ordinary ROS 2 bag, with the true labels beside it.

Comes in: a seed and a rig. Goes out: a rosbag2 folder (mcap) that holds, besides what ROS reads, `truth.json` and `truth/<stamp_ns>.npz`
with the label of every point in cloud order. Next rooms: bags, pipeline.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from heapq import heappop, heappush
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from xkd_ros.bags.ros2_form import ros2_types
from xkd_ros.bags.topics import LATCHED
from xkd_ros.bags.writer import BagWriter
from xkd_ros.core.errors import BagError, ConfigError
from xkd_ros.core.files import atomic_path
from xkd_ros.core.labels import INDOOR12
from xkd_ros.core.progress import Report
from xkd_ros.core.types import CameraImage
from xkd_ros.worlds import recording
from xkd_ros.worlds.crowd import WALKERS
from xkd_ros.worlds.measuring import measure
from xkd_ros.worlds.sensors import SENSORS
from xkd_ros.worlds.simulated_rig import SimulatedRig, load_simulated_rig
from xkd_ros.worlds.varied_rig import VARIED, varied_rig
from xkd_ros.worlds.walkthrough import SCAN_PERIOD_S, Walkthrough, scans_in, split_of

log = logging.getLogger(__name__)
TRUTH_FOLDER, TRUTH_FILE = "truth", "truth.json"
_EPOCH_NS = 1_767_225_600_000_000_000  # an invented day; seeds are an hour apart
_HOUR_NS = 3_600_000_000_000
# How long after its stamp a message reaches the recorder.
_CLOUD_DELAY_NS, _IMAGE_DELAY_NS, _ODOMETRY_DELAY_NS = 104_000_000, 12_000_000, 1_000_000


@dataclass(frozen=True)
class SimulationSummary:
    """What was written; also the content of truth.json.

    Attributes:
        seed: Building seed.
        split: train, val, test or extra.
        rig: Name of the rig.
        style: Kind of building.
        family: Texture family.
        scans: Number of clouds.
        images: Number of pictures of all cameras.
        seconds: Length of the walk.
        rooms: Kinds of the rooms.
        walkers: People who walk: those added, and those of the building itself.
        walkers_added: Those added.
        lidar_cue_share: Share of doors and windows that a lidar can see above its noise; the others are visible in the image only.
        class_names: Names of the labels 0, 1, 2 ...; 255 is unknown.
        class_hash: Identifies the class map.
    """

    seed: int
    split: str
    rig: str
    style: str
    family: str
    scans: int
    images: int
    seconds: float
    rooms: tuple[str, ...]
    walkers: int
    walkers_added: int
    lidar_cue_share: float
    class_names: tuple[str, ...]
    class_hash: str


def simulate(
    seed: int,
    rig: str | Path,
    seconds: float,
    out: str | Path,
    progress: Report | None = None,
    family: str | None = None,
    overwrite: bool = False,
    every: int = 1,
    processes: int = 1,
    pictures: bool = True,
    walkers: int = WALKERS,
) -> SimulationSummary:
    """Simulate a walk through a building and write it as a bag.

    The same seed, rig, length, folder name, package versions and kind of CPU give the same bytes.

    Args:
        seed: Building: 0-59 train, 60-74 validation, 75-99 test.
        rig: Name of a rig (`simulated_rig.rig_names()`), path of a rig YAML, or "varied": another rig for every building.
        seconds: Length; ten scans and ten pictures per camera each second.
        out: Folder to write; it appears when it is complete.
        progress: Called with scans done and scans in all.
        family: Texture family instead of the one of the seed's split.
        overwrite: Replace an existing folder.
        every: Measure each n-th scan and its pictures only, which are those that a whole simulation has; odometry stays complete.
        processes: At work; the bytes are the same for any number.
        pictures: False leaves the cameras at home, which take most of the time; lidar and odometry measure the same.
        walkers: People added who walk about near the rig.
    Returns:
        A summary.
    Raises:
        ConfigError: unknown rig or family, impossible seed, length or number of people, or a path that names a file.
        BagError: the folder exists, or cannot be written.
    """
    out = Path(out)
    if every < 1:
        raise ConfigError(f"every {every}-th scan cannot be simulated; choose 1 or more")
    if out.suffix in (".mcap", ".db3", ".bag"):
        raise ConfigError(f"{out} names a file, but a simulation is a folder (bag and true labels); use {out.with_suffix('')}")
    if out.exists() and not overwrite:
        raise BagError(f"{out} exists already; choose another name, or remove it")
    simulated_rig = rig_for(rig, seed, pictures)
    walk = Walkthrough(seed, simulated_rig, seconds, family, walkers)
    with atomic_path(out) as temporary:
        # rosbags names the storage file after its folder, so the bag grows under its final name inside the temporary folder.
        bag = temporary / out.name
        truth = temporary / TRUTH_FOLDER
        truth.mkdir(parents=True)
        with BagWriter(bag) as writer:
            for topic, message, stamp_ns in _in_order(walk, truth, every, progress, processes):
                writer.write(topic, message, stamp_ns, LATCHED if topic == "/tf_static" else None)
        summary = _summarise(walk, every)
        (bag / TRUTH_FILE).write_text(json.dumps(asdict(summary), indent=1) + "\n", encoding="utf-8")
        truth.rename(bag / TRUTH_FOLDER)
        aside = temporary.with_name(temporary.name + ".whole")
        bag.rename(aside)
        shutil.rmtree(temporary)
        aside.rename(temporary)
    log.info("wrote %s: %d scans, %d images of building %d (%s)", out, summary.scans, summary.images, seed, summary.style)
    return summary


def _in_order(walk: Walkthrough, truth: Path, every: int, progress: Report | None, processes: int) -> Iterator[tuple[str, Any, int]]:
    """Give topic, message and time of recording, in the order in which a recorder receives them."""
    waiting: list[tuple[int, int, str, Any]] = []
    number = count()
    for horizon_ns, topic, message, stamp_ns in _messages(walk, truth, every, progress, processes):
        heappush(waiting, (stamp_ns, next(number), topic, message))
        # Nothing measured later can be received before the horizon.
        while waiting and waiting[0][0] < horizon_ns:
            received_ns, _, name, ready = heappop(waiting)
            yield name, ready, received_ns
    while waiting:
        received_ns, _, name, ready = heappop(waiting)
        yield name, ready, received_ns


def _messages(walk: Walkthrough, truth: Path, every: int, progress: Report | None, processes: int) -> Iterator[tuple[int, str, Any, int]]:
    """Give horizon, topic, message and time of recording, scan by scan."""
    types = ros2_types()
    rig = walk.rig.rig
    start_ns = _EPOCH_NS + walk.seed * _HOUR_NS
    organised = walk.rig.simulation.driver == "ouster"
    rows = len(SENSORS[walk.rig.simulation.lidar].elevations_deg)
    yield start_ns, "/tf_static", recording.make_static_transforms(walk.rig, start_ns, types), start_ns
    odometry = walk.odometry()
    upcoming = next(odometry, None)
    moments = measure(walk, range(0, walk.scans, every), start_ns, organised, processes)
    for number, moment in enumerate(moments, 1):
        index, scan = moment.index, moment.scan
        now_s = index * SCAN_PERIOD_S
        horizon_ns = start_ns + round(now_s * 1e9)
        _save_truth(truth / f"{scan.stamp_ns}.npz", moment.labels, walk.world_from_lidar(now_s))
        yield horizon_ns, rig.lidar.topic, recording.make_scan_message(scan, walk.rig, rows, types), scan.stamp_ns + _CLOUD_DELAY_NS
        for camera, config in enumerate(rig.cameras):
            stamp_ns = start_ns + round(walk.picture_time_s(camera, index) * 1e9)
            image = CameraImage(walk.develop(camera, index, moment.looks[camera]).rgb, stamp_ns, config.frame_id)
            received_ns = stamp_ns + _IMAGE_DELAY_NS
            yield horizon_ns, config.topic, recording.make_picture_message(image, walk.rig.simulation.images, types), received_ns
            yield horizon_ns, recording.info_topic(config.topic), recording.make_info_message(config, stamp_ns, types), received_ns
        while upcoming is not None and upcoming[0] < now_s + every * SCAN_PERIOD_S:
            stamp_ns = start_ns + round(upcoming[0] * 1e9)
            yield horizon_ns, "/odom", recording.make_odometry(stamp_ns, *upcoming[1:], types), stamp_ns + _ODOMETRY_DELAY_NS
            upcoming = next(odometry, None)
        if progress is not None:
            progress(number, -(-walk.scans // every), {})


def _save_truth(path: Path, labels: np.ndarray, world_from_lidar: np.ndarray) -> None:
    with open(path, "wb") as file:
        np.savez_compressed(file, labels=labels.astype(np.uint8), world_from_lidar=world_from_lidar)


def rig_for(rig: str | Path, seed: int, pictures: bool) -> SimulatedRig:
    """Find or make the rig of a walk, without its cameras where there are to be no pictures; arguments as for `simulate`."""
    found = varied_rig(seed) if str(rig) == VARIED else load_simulated_rig(rig)
    return found if pictures else replace(found, rig=found.rig.model_copy(update={"cameras": []}))


def scans_of(seconds: float, every: int) -> int:
    """Count the scans of a walk of which each `every`-th is measured."""
    return -(-scans_in(seconds) // every)


def _summarise(walk: Walkthrough, every: int) -> SimulationSummary:
    rig, building, scans = walk.rig.rig, walk.building, scans_of(walk.seconds, every)
    return SimulationSummary(
        seed=walk.seed,
        split=split_of(walk.seed),
        rig=rig.name,
        style=building.style,
        family=walk.family,
        scans=scans,
        images=scans * len(rig.cameras),
        seconds=walk.seconds,
        rooms=tuple(room.kind for room in building.rooms),
        walkers=walk.crowd.walkers,
        walkers_added=walk.walkers,
        lidar_cue_share=round(walk.visible_share(), 3),
        class_names=INDOOR12.names,
        class_hash=INDOOR12.hash,
    )
