"""One line of a node on /diagnostics: a level, a sentence, and rows of figures."""

from __future__ import annotations

from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node


class DiagnosticTopic:
    """Publishes the line of one subject."""

    def __init__(self, node: Node, subject: str) -> None:
        """Offer the topic.

        Args:
            node: Its name begins that of the line.
            subject: What the line is about, such as "labelling".
        """
        self._node, self._subject = node, subject
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)

    def publish(self, level: bytes, sentence: str, rows: Mapping[str, object], hardware_id: str = "") -> None:
        """Send it.

        Args:
            level: Of DiagnosticStatus.
            sentence: What a person reads first.
            rows: Name and value; an underscore in a name becomes a space.
            hardware_id: What it is about, where there are several.
        """
        status = DiagnosticStatus(
            level=level,
            name=f"{self._node.get_fully_qualified_name().strip('/')}: {self._subject}",
            hardware_id=hardware_id,
            message=sentence,
            values=[KeyValue(key=key.replace("_", " "), value=str(value)) for key, value in rows.items()],
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)
