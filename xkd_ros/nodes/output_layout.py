"""Parameters and the classes of a model → output ids, layout of the labelled cloud, filters; or why they do not fit each other."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from xkd_ros.core.card import ModelCard
from xkd_ros.core.errors import ConfigError
from xkd_ros.msgs.labelled_cloud import LabelledCloudFormat
from xkd_ros.nodes.filtered_outputs import PointFilter, make_filters
from xkd_ros.nodes.segmenter_parameters import chosen_classes, parse_class_remap
from xkd_ros.runtime.headings import check_headings


@dataclass(frozen=True, eq=False)
class OutputLayout:
    """What becomes of the answers of a model.

    Attributes:
        remap: Class of the model → output id; None keeps the model's.
        groups: (C,) class that stands for each class of the model where several have one output id; None where each is its own.
        format: Encoder of the labelled cloud.
        filters: What goes to which filtered topic.
        headings: In which each scan is labelled.
    """

    remap: dict[int, int] | None
    groups: np.ndarray | None
    format: LabelledCloudFormat
    filters: dict[str, PointFilter]
    headings: int


def make_layout(values: SimpleNamespace, card: ModelCard) -> OutputLayout:
    """Read the parameters; also a trial of parameters before they are taken.

    Raises:
        ConfigError: a class that the model does not have, field names that collide, or headings that do not go with the field of view
            or with fused.
    """
    check_headings(int(values.headings), card.geometry)
    if values.fused and values.headings > 1:
        raise ConfigError(f"headings {values.headings} is not possible with fused, which labels each scan as it is; leave headings at 1")
    names = card.labels.names
    remap = _class_ids(values.class_remap, names)
    layout = LabelledCloudFormat(values.output_profile, values.label_field, values.label_type, remap, reuse_buffer=True)
    moving, ground = (chosen_classes(values, parameter, names) for parameter in ("static_without", "ground_classes"))
    filters = make_filters(moving, ground, float(values.filtered_min_probability), int(values.filtered_every))
    return OutputLayout(remap, _join(remap, len(names)), layout, filters, int(values.headings))


def _class_ids(text: str, names: tuple[str, ...]) -> dict[int, int] | None:
    """Turn class names into ids; None where nothing is remapped."""
    remap = parse_class_remap(text)
    for name in remap:
        if name not in names and not (name.isdecimal() and int(name) < len(names)):
            raise ConfigError(f"class_remap names '{name}', which the model does not know; its classes are {', '.join(names)}")
    return {names.index(name) if name in names else int(name): number for name, number in remap.items()} or None


def _join(remap: dict[int, int] | None, classes: int) -> np.ndarray | None:
    """Make one of the classes that get the same output id; each that gets none stays one of its own."""
    if remap is None or len(set(remap.values())) == len(remap):
        return None
    first = {number: label for label, number in sorted(remap.items(), reverse=True)}
    return np.array([first[remap[label]] if label in remap else label for label in range(classes)])
