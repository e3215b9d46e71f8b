from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xkd_ros.core.errors import CalibrationError
from xkd_ros.core.se3 import invert, make_transform, rotation_from_rpy
from xkd_ros.msgs.build import make_transforms
from xkd_ros.msgs.transform_tree import TransformTree

angle = st.floats(-3, 3)
transforms = st.builds(
    lambda r, p, y, t: make_transform(rotation_from_rpy(r, p, y), t), angle, angle, angle, st.tuples(angle, angle, angle)
)


@settings(max_examples=50, deadline=None)
@given(edges=st.lists(transforms, min_size=1, max_size=5), data=st.data())
def test_every_pair_of_a_random_tree_is_the_chain_between_them(typestore: Any, edges: list[np.ndarray], data: Any) -> None:
    world_from = [np.eye(4)]
    named = {}
    for index, parent_from_child in enumerate(edges, 1):
        parent = data.draw(st.integers(0, index - 1))
        named[f"/f{parent}", f"f{index}"] = parent_from_child
        world_from.append(world_from[parent] @ parent_from_child)
    message = make_transforms(named, 1, typestore.types)
    tree = TransformTree()
    tree.add_message(typestore.deserialize_cdr(typestore.serialize_cdr(message, "tf2_msgs/msg/TFMessage"), "tf2_msgs/msg/TFMessage"))
    for target, world_from_target in enumerate(world_from):
        for source, world_from_source in enumerate(world_from):
            np.testing.assert_allclose(tree.lookup(f"f{target}", f"/f{source}"), invert(world_from_target) @ world_from_source, atol=1e-9)


def test_missing_links_name_both_frames_and_the_known_ones() -> None:
    tree = TransformTree()
    tree.add("base_link", "lidar", np.eye(4))
    tree.add("camera_link", "camera_optical", np.eye(4))
    with pytest.raises(
        CalibrationError, match=r"from 'lidar' to 'camera_optical' \(known frames: base_link, camera_link, camera_optical, lidar\)"
    ):
        tree.lookup("camera_optical", "lidar")
    with pytest.raises(CalibrationError, match="known frames: none"):
        TransformTree().lookup("a", "b")


def test_the_last_word_wins_also_when_the_direction_turned() -> None:
    tree = TransformTree()
    tree.add("a", "b", make_transform(np.eye(3), [1, 0, 0]))
    tree.add("a", "b", make_transform(np.eye(3), [2, 0, 0]))
    np.testing.assert_array_equal(tree.lookup("a", "b")[:3, 3], [2, 0, 0])
    tree.add("b", "a", make_transform(np.eye(3), [5, 0, 0]))
    np.testing.assert_array_equal(tree.lookup("a", "b")[:3, 3], [-5, 0, 0])


@pytest.mark.parametrize(("name", "value"), [("w", 0.0), ("w", float("nan")), ("x", 3.0)])
def test_impossible_rotations_are_refused(typestore: Any, name: str, value: float) -> None:
    message = make_transforms({("a", "b"): np.eye(4)}, 1, typestore.types)
    setattr(message.transforms[0].transform.rotation, name, value)
    with pytest.raises(CalibrationError, match="a -> b"):
        TransformTree().add_message(message)


def test_a_frame_hangs_from_the_parent_it_was_given_last() -> None:
    tree = TransformTree()
    tree.add("lidar", "camera", make_transform(np.eye(3), [1, 0, 0]))
    tree.add("base", "lidar", np.eye(4))
    tree.add("base", "camera", make_transform(np.eye(3), [5, 0, 0]))
    np.testing.assert_array_equal(tree.lookup("lidar", "camera")[:3, 3], [5, 0, 0])
    assert set(tree.edges) == {("base", "lidar"), ("base", "camera")}


def test_frames_that_lead_round_in_a_circle_end_somewhere() -> None:
    tree = TransformTree()
    for parent, child in (("a", "b"), ("b", "c"), ("c", "a"), ("c", "c")):
        tree.add(parent, child, np.eye(4))
    assert tree.lookup("a", "c").shape == (4, 4)
    with pytest.raises(CalibrationError, match="known frames: a, b, c"):
        tree.lookup("a", "elsewhere")


def test_a_frame_may_be_added_while_another_is_looked_up() -> None:
    class Interrupted(np.ndarray):
        """Where another thread takes over in the middle of a lookup."""

        def __matmul__(self, other: np.ndarray) -> np.ndarray:
            tree.add("base", f"new{len(tree.edges)}", np.eye(4))
            return np.asarray(self) @ other

    tree = TransformTree()
    tree.add("base", "lidar", np.eye(4).view(Interrupted))
    tree.add("base", "camera", np.eye(4))
    np.testing.assert_array_equal(tree.lookup("camera", "lidar"), np.eye(4))
    assert len(tree.edges) == 3
