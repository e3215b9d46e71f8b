"""Quality of service: profiles from parameters, and the ways two ends of a topic can fail to talk, said by name."""

from __future__ import annotations

from typing import Any

from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy, qos_policy_name_from_kind
from rclpy.topic_endpoint_info import TopicEndpointInfo

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


def subscription_events(node: Node, topic: str) -> SubscriptionEventCallbacks:
    """Log, at the moment it appears, a publisher that this subscription cannot hear; `deaf_to` says it as long as it lasts."""

    def incompatible_qos(event: Any) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind).lower()
        node.get_logger().warning(f"a publisher on {topic} offers another {policy} than this node asks for: nothing arrives from it")

    def incompatible_type(event: Any) -> None:
        node.get_logger().warning(f"{topic} is published with another message type: nothing arrives from there")

    return SubscriptionEventCallbacks(incompatible_qos=incompatible_qos, incompatible_type=incompatible_type)


def publisher_events(node: Node, topic: str) -> PublisherEventCallbacks:
    """Log, at the moment it appears, a subscriber that cannot hear this publisher; `unheard_by` says it as long as it lasts."""

    def incompatible_qos(event: Any) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind).lower()
        node.get_logger().warning(f"a subscriber on {topic} asks for another {policy} than this node offers: it receives nothing")

    return PublisherEventCallbacks(incompatible_qos=incompatible_qos)


def deaf_to(node: Node, topic: str, message_type: str, asked: QoSProfile) -> list[str]:
    """Name every publisher on a topic that a subscription of this node cannot hear, now.

    Args:
        node: For a look at the graph.
        topic: Resolved name.
        message_type: Such as "sensor_msgs/msg/PointCloud2".
        asked: Profile of the subscription.
    Returns:
        One sentence per publisher: who, which policy, what to do.
    """
    sentences = []
    for end in node.get_publishers_info_by_topic(topic):
        who = f"{_name(end)} publishes {topic}"
        if end.topic_type != message_type:
            sentences.append(f"{who} as {end.topic_type}, this node reads {message_type}: remap the input to another topic")
        elif policy := _mismatch(end.qos_profile, asked):
            name, offered, wanted = policy
            hint = f"set the input {name} parameter of this node to {offered}, or change the publisher"
            sentences.append(f"{who} with {name} {offered}, this node asks for {wanted}: nothing arrives from it; {hint}")
    return sentences


def unheard_by(node: Node, topic: str, offered: QoSProfile) -> list[str]:
    """Name every subscriber of a topic that cannot hear this node's publisher, now; one sentence each, as `deaf_to`."""
    sentences = []
    for end in node.get_subscriptions_info_by_topic(topic):
        if policy := _mismatch(offered, end.qos_profile):
            name, ours, wanted = policy
            hint = f"set the output {name} parameter of this node to {wanted}, or change the subscriber"
            sentences.append(f"{_name(end)} asks for {name} {wanted} on {topic}, this node offers {ours}: it receives nothing; {hint}")
    return sentences


def _name(end: TopicEndpointInfo) -> str:
    return f"{end.node_namespace.rstrip('/')}/{end.node_name}"


def _mismatch(offered: QoSProfile, asked: QoSProfile) -> tuple[str, str, str] | None:
    """Return policy, what is offered and what is asked for where a subscriber asks for more than it can get.

    Only the two policies that the parameters of our nodes set. `rclpy.qos.qos_check_compatible` is of no use here: it calls a default
    deadline incompatible with the infinite one that the graph reports for it.
    """
    for policy in ("reliability", "durability"):
        ours, theirs = (str(getattr(profile, policy).name).lower() for profile in (offered, asked))
        if (ours, theirs) in (("best_effort", "reliable"), ("volatile", "transient_local")):
            return policy, ours, theirs
    return None
