"""Refuses a configuration whose teachers, classes or simulated scans are not there, before hours are spent."""

from __future__ import annotations

from pathlib import Path

from xkd_ros.distill.partdistill.config import PartDistillConfig
from xkd_ros.pipeline.learn_config import LearnConfig
from xkd_ros.pipeline.unit_stage import generated_bags
from xkd_ros.teacher.class_map import load_class_map
from xkd_ros.teacher.model_folder import find_folder, find_teacher
from xkd_ros.teacher.teacher import OWN_TEACHER


def check_names(config: LearnConfig) -> None:
    """Refuse what is not there before hours are spent on what comes first.

    Hub ids are looked up when their turn comes.

    Raises:
        ConfigError: no such class map.
        BagError: no simulated scans where the configuration says.
        ModelError: no such folder, or one that holds no teacher.
    """
    load_class_map(config.classes)
    boxes: tuple[str, ...] = ()
    if isinstance(config.finetune, PartDistillConfig):
        boxes = (config.finetune.box_teacher,) if config.finetune.box_teacher else ()
        if config.finetune.generated is not None:
            generated_bags(config.finetune.generated)
    for spec in map(find_teacher, (*config.teachers, *boxes)):
        if Path(spec).is_dir() or spec.count("/") != 1:
            find_folder(spec, OWN_TEACHER)
