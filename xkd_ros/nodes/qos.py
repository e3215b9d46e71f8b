"""Quality of service: profiles from parameters, and the two ways a topic pair can fail to talk, said by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy, qos_policy_name_from_kind

RELIABILITIES = ("best_effort", "reliable")
DURABILITIES = ("volatile", "transient_local")

LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
"""One message, kept for whoever subscribes later."""


def make_profile(reliability: str, depth: int, durability: str = "volatile") -> QoSProfile:
    """Build a keep-last profile.

    Args:
        reliability: One of RELIABILITIES.
        depth: Messages kept in the queue.
        durability: One of DURABILITIES.
    """
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy[reliability.upper()],
        durability=DurabilityPolicy[durability.upper()],
    )


def subscription_events(node: Node, topic: str, on_incompatible: Callable[[str], None]) -> SubscriptionEventCallbacks:
    """Report publishers that this subscription cannot hear.

    Args:
        node: For its logger.
        topic: Name to show.
        on_incompatible: Gets the sentence as well, for diagnostics.
    """

    def incompatible_qos(event: Any) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind).lower()
        sentence = (
            f"a publisher on {topic} offers another {policy} than this node asks for: nothing arrives from it;"
            f" set the input {policy} parameter of this node to what the publisher offers"
        )
        node.get_logger().warning(sentence)
        on_incompatible(sentence)

    def incompatible_type(event: Any) -> None:
        sentence = f"{topic} is published with another message type: nothing arrives; remap the input to a topic of the right type"
        node.get_logger().warning(sentence)
        on_incompatible(sentence)

    return SubscriptionEventCallbacks(incompatible_qos=incompatible_qos, incompatible_type=incompatible_type)


def publisher_events(node: Node, topic: str, on_incompatible: Callable[[str], None]) -> PublisherEventCallbacks:
    """Report subscribers that cannot hear this publisher; arguments as in `subscription_events`."""

    def incompatible_qos(event: Any) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind).lower()
        sentence = f"a subscriber on {topic} asks for another {policy} than this node offers: it receives nothing"
        node.get_logger().warning(sentence)
        on_incompatible(sentence)

    return PublisherEventCallbacks(incompatible_qos=incompatible_qos)
