"""What cells share, made when first asked for: recordings → frames → teacher targets → pseudo-labels, distilled backbones.

Everything lies in a folder whose name ends in the hash of what it was made from, so that nothing stale is ever found, and is made by
rooms that go on after an interruption.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from lightning_fabric import Fabric

from xkd_ros import __version__
from xkd_ros.bags.frame_config import FrameConfig
from xkd_ros.bags.frame_manifest import MANIFEST_NAME
from xkd_ros.bags.frame_store import FrameStore
from xkd_ros.bags.frame_writer import write_frames
from xkd_ros.core.card import NetworkConfig
from xkd_ros.core.errors import ConfigError
from xkd_ros.distill.backbone import CARD_NAME, Backbone, load_backbone
from xkd_ros.distill.distillation import run_distil
from xkd_ros.distill.label_store import LabelStore
from xkd_ros.distill.pseudo_labels import write_pseudo_labels
from xkd_ros.nets.image_checkpoint import ImageTeacherCard, save_image_teacher
from xkd_ros.nets.image_student import seeded_image_student
from xkd_ros.pipeline.run_folder import stage_key
from xkd_ros.pipeline.studies.joined import JoinedFrames, JoinedTargets
from xkd_ros.pipeline.studies.progress import Report, StudyProgress
from xkd_ros.pipeline.studies.scale import RIGS, Scale
from xkd_ros.pipeline.walks import Walk, simulate_walks
from xkd_ros.teacher.class_map import ClassMap, load_class_map
from xkd_ros.teacher.model_folder import find_teacher
from xkd_ros.teacher.target_store import TargetStore
from xkd_ros.teacher.target_writer import write_targets
from xkd_ros.teacher.teacher import OWN_TEACHER, Teacher, load_teacher
from xkd_ros.train.checkpoint import CHECKPOINT_NAME
from xkd_ros.worlds.walkthrough import SCAN_PERIOD_S

Part = Literal["train", "val"]
CLASSES = "indoor12"
RANDOM_TEACHER = "random-image-network"
"""Control: an image network that never learnt anything."""


class Workshop:
    """Makes and finds what cells share.

    Attributes:
        root: Work folder; may be deleted, then everything is made again.
        scale: Sizes.
        teachers: Name in cells → folder or hub id.
        class_map: Of teacher and labels.
        fabric: Launched.
        progress: Where steps are shown.
        shared_s: Time spent here so far, seconds.
    """

    def __init__(self, root: Path, scale: Scale, teachers: Sequence[str], fabric: Fabric, progress: StudyProgress) -> None:
        self.root, self.scale, self.fabric, self.progress = root, scale, fabric, progress
        self.teachers = name_teachers(teachers)
        self.class_map: ClassMap = load_class_map(CLASSES)
        self.shared_s = 0.0
        self._frames: dict[tuple[str, str], FrameStore] = {}
        self._teachers: dict[str, Teacher] = {}

    @property
    def workers(self) -> int | None:
        """Processes that prepare batches: one beside a network that computes on the same cores, as many as help beside a GPU."""
        return min(1, (os.cpu_count() or 1) - 1) if self.fabric.device.type == "cpu" else None

    def network(self, depth: int | None = None) -> NetworkConfig:
        """Sizes of the student; `depth` instead of the usual one."""
        changes = {"classes": len(self.class_map.label_set), "depth": depth or self.scale.network.depth}
        return self.scale.network.model_copy(update=changes)

    def teacher(self, name: str) -> Teacher:
        """Load an image teacher by its name in cells, once."""
        if name not in self._teachers:
            spec = self._random_teacher() if name == RANDOM_TEACHER else find_teacher(self.teachers[name])
            self._teachers[name] = load_teacher(spec, self.class_map, str(self.fabric.device))
        return self._teachers[name]

    def frames(self, rig: str, part: Part) -> FrameStore:
        """Find the frames of a rig in the training or validation buildings, with their true labels.

        Raises:
            ConfigError: the rig is none of the benchmark, or cannot be simulated by this version.
        """
        if (rig, part) not in self._frames:
            self._frames[rig, part] = self._make_frames(rig, part)
        return self._frames[rig, part]

    def drives(self, rig: str, buildings: Sequence[int], scans: int) -> FrameStore:
        """Find consecutive scans of a rig's first lidar in some buildings, without pictures, with poses and true labels.

        Args:
            rig: One of the benchmark.
            buildings: One recording each.
            scans: Of each recording, from its beginning, ten a second.
        """
        walks = [Walk(RIGS[rig][0], building, scans * SCAN_PERIOD_S, 1, pictures=False) for building in buildings]
        config = FrameConfig(split="bag", shares=(1.0, 0.0, 0.0), keep_unpaired=True)
        return self._write_frames(walks, config, f"{rig}-drives", f"{rig} without cameras in buildings {', '.join(map(str, buildings))}")

    def targets(self, rig: str, part: Part, teacher: str) -> TargetStore:
        """Find what a teacher says about frames."""
        frames, loaded, config = self.frames(rig, part), self.teacher(teacher), self.scale.target_config(part)
        key = stage_key("targets", config.model_dump(mode="json"), {"frames": frames.hash, "teacher": loaded.fingerprint})
        with self._making(f"asking the teacher about {rig} {part} frames") as report:
            return write_targets(frames, [loaded], self.root / "targets" / f"{rig}-{part}-{key}", config, report)

    def pseudo_labels(self, rig: str, part: Part, teacher: str) -> LabelStore:
        """Find the labels that can be trusted."""
        frames, targets, config = self.frames(rig, part), self.targets(rig, part, teacher), self.scale.pseudo_config()
        key = stage_key("pseudo", config.model_dump(mode="json"), {"frames": frames.hash, "targets": targets.hash})
        with self._making(f"choosing labels of {rig} {part} frames") as report:
            return write_pseudo_labels(frames, targets, self.root / "pseudo" / f"{rig}-{part}-{key}", config, report)

    def backbone(self, rigs: tuple[str, ...], teacher: str, seed: int, network: NetworkConfig, steps: int | None = None) -> Backbone:
        """Find the backbone that a teacher was distilled into on the frames of some rigs.

        Args:
            rigs: One or several.
            teacher: Its name.
            seed: Of weights, order and augmentation.
            network: Sizes.
            steps: Per rig; None takes the scale's.
        """
        targets = [self.targets(rig, "train", teacher) for rig in rigs]
        frames = JoinedFrames([self.frames(rig, "train") for rig in rigs])
        config = self.scale.distil(seed, len(rigs), steps)
        settings = [network.model_dump(), self.scale.student.model_dump(mode="json"), config.deciding()]
        key = stage_key("distill", settings, {f"targets {number}": store.hash for number, store in enumerate(targets)})
        name = rigs[0] if len(rigs) == 1 else f"{len(rigs)}-rigs"
        folder = self.root / "backbones" / f"{name}-{network.depth}x{network.width}-seed{seed}-{key}"
        if not (folder / CARD_NAME).is_file():
            config = config.model_copy(update={"workers": self.workers})
            with self._making(f"distilling on {name}, seed {seed}") as report:
                run_distil(frames, JoinedTargets(frames, targets), network, self.scale.student, config, folder, self.fabric, report)
        (folder / CHECKPOINT_NAME).unlink(missing_ok=True)
        return load_backbone(folder)

    def _make_frames(self, rig: str, part: Part) -> FrameStore:
        if rig not in RIGS:
            raise ConfigError(f"rig '{rig}' is none of the benchmark's: {', '.join(RIGS)}")
        scale, members = self.scale, RIGS[rig]
        buildings = scale.train_buildings if part == "train" else scale.val_buildings
        # The frames of a rig are as many with one lidar as with two.
        wanted = scale.train_frames if part == "train" else scale.val_frames
        seconds = scale.walk_s(wanted)
        walks = [Walk(member, building, seconds, scale.every * len(members)) for member in members for building in buildings]
        return self._write_frames(walks, scale.frame_config(part), f"{rig}-{part}", f"{rig} in {part} buildings")

    def _write_frames(self, walks: Sequence[Walk], config: FrameConfig, name: str, what: str) -> FrameStore:
        settings = [__version__, [(walk.rig, walk.building, walk.seconds, walk.every) for walk in walks], config.model_dump(mode="json")]
        key = stage_key("frames", settings, {})
        folder, bags = self.root / "frames" / f"{name}-{key}", self.root / "bags" / f"{name}-{key}"
        if not (folder / MANIFEST_NAME).is_file():
            with self._making(f"simulating {what}") as report:
                paths = simulate_walks(walks, bags, os.cpu_count() or 1, report)
            with self._making(f"storing frames of {what}") as report:
                write_frames(paths, folder, config, progress=report)
        # Gigabytes that can be made again from their seeds.
        shutil.rmtree(bags, ignore_errors=True)
        return FrameStore(folder)

    def _random_teacher(self) -> str:
        folder, card = self.root / "teachers" / RANDOM_TEACHER, ImageTeacherCard(name=RANDOM_TEACHER)
        if not (folder / OWN_TEACHER).is_file():
            save_image_teacher(seeded_image_student(card.network, 0), card, folder)
        return str(folder)

    @contextmanager
    def _making(self, title: str) -> Iterator[Report]:
        started = time.monotonic()
        try:
            with self.progress.step(title) as report:
                yield report
        finally:
            self.shared_s += time.monotonic() - started


def name_teachers(specs: Sequence[str]) -> dict[str, str]:
    """Name teachers by the last part of their folder or hub id, which is the same on every machine.

    Raises:
        ConfigError: none, or two of one name.
    """
    names = {re.sub(r"[^a-z0-9_.-]+", "-", Path(spec).name.lower()).strip("-._") or "teacher": spec for spec in specs}
    if not specs or len(names) < len(specs) or RANDOM_TEACHER in names:
        raise ConfigError(
            f"teachers {', '.join(specs) or '(none)'}: give at least one, each with a name of its own as last part of its folder"
        )
    return names
