"""Refuses a configuration whose teachers or classes are not there, before hours are spent."""

from __future__ import annotations

from pathlib import Path

from xkd_ros.distill.partdistill.config import PartDistillConfig
from xkd_ros.pipeline.learn_config import LearnConfig
from xkd_ros.teacher.class_map import load_class_map
from xkd_ros.teacher.model_folder import find_folder, find_teacher
from xkd_ros.teacher.teacher import OWN_TEACHER


def check_names(config: LearnConfig) -> None:
    """Refuse a class map or a teacher folder that is not there before hours are spent on what comes first.

    Hub ids are looked up when their turn comes.

    Raises:
        ConfigError: no such class map.
        ModelError: no such folder, or one that holds no teacher.
    """
    load_class_map(config.classes)
    boxes = (config.finetune.box_teacher,) if isinstance(config.finetune, PartDistillConfig) and config.finetune.box_teacher else ()
    for spec in map(find_teacher, (*config.teachers, *boxes)):
        if Path(spec).is_dir() or spec.count("/") != 1:
            find_folder(spec, OWN_TEACHER)
