"""The latched topic that says which id is which class, for who comes late: `<output>/label_info`."""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any

from rclpy.node import Node
from std_msgs.msg import String

from xkd_ros.core.card import ModelCard
from xkd_ros.core.types import UNKNOWN
from xkd_ros.nodes.qos import LATCHED


def describe_labels(card: ModelCard, remap: dict[int, int] | None, label_field: str) -> dict[str, Any]:
    """Describe the ids in the labelled cloud.

    Args:
        card: Of the model in use.
        remap: Output id of each class id, or None where ids are kept; classes left out become unknown.
        label_field: Name of the field that holds the id.
    """
    output = {number: number for number in range(len(card.labels))} if remap is None else remap
    classes = [
        {"id": output[number], "name": name, "colour": list(colour)}
        for number, (name, colour) in enumerate(zip(card.labels.names, card.labels.colours))
        if number in output
    ]
    return {
        "field": label_field,
        "classes": classes,
        "unknown": {"id": UNKNOWN, "colour": [int(channel) for channel in card.labels.palette[UNKNOWN]]},
        "model": card.name,
        "card_hash": card.hash,
        "labels_hash": card.labels.hash,
    }


class LabelInfoTopics:
    """std_msgs/String with JSON, and vision_msgs/LabelInfo on `<output>/vision_label_info` where that package exists."""

    def __init__(self, node: Node, output_topic: str) -> None:
        self._node = node
        self._text = node.create_publisher(String, f"{output_topic}/label_info", LATCHED)
        try:
            self._vision: Any = import_module("vision_msgs.msg")
        except ImportError:
            self._vision = None
        topic = f"{output_topic}/vision_label_info"
        self._vision_publisher = node.create_publisher(self._vision.LabelInfo, topic, LATCHED) if self._vision else None

    def publish(self, description: dict[str, Any]) -> None:
        """Replace what late subscribers get; argument from `describe_labels`."""
        self._text.publish(String(data=json.dumps(description)))
        if self._vision_publisher is not None:
            message = self._vision.LabelInfo()
            message.header.stamp = self._node.get_clock().now().to_msg()
            message.class_map = [
                self._vision.VisionClass(class_id=entry["id"], class_name=entry["name"]) for entry in description["classes"]
            ]
            self._vision_publisher.publish(message)

    def destroy(self) -> None:
        """Remove the topics."""
        self._node.destroy_publisher(self._text)
        if self._vision_publisher is not None:
            self._node.destroy_publisher(self._vision_publisher)
