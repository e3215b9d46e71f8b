"""No exception leaves a callback: it would end the node, or vanish in a transition. It becomes one line in the log instead."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node

from xkd_ros.core.errors import XkdError

RCLError: type[Exception] = rclpy_implementation.RCLError

THROTTLED: dict[str, Any] = {"throttle_duration_sec": 5.0, "throttle_time_source_type": Clock(clock_type=ClockType.STEADY_TIME)}
"""For what is logged at most every five seconds. By the system's clock, rclpy's default, it would fall silent when that is set back."""


def guarded(node: Node, callback: Callable[..., Any], what: str) -> Callable[..., Any]:
    """Wrap a callback.

    Args:
        node: For its logger.
        callback: What may raise.
        what: Start of the sentence in the log, such as "cloud not used".
    Returns:
        The callback; None is its result after an error.
    """

    @functools.wraps(callback)
    def wrapper(*arguments: Any) -> Any:
        try:
            return callback(*arguments)
        except XkdError as error:
            node.get_logger().error(f"{what}: {error}", **THROTTLED)
        except Exception as error:
            node.get_logger().error(f"{what}: {_unexpected(error)}", **THROTTLED)
        return None

    return wrapper


def refusing(check: Callable[[list[Any]], SetParametersResult]) -> Callable[[list[Any]], SetParametersResult]:
    """Wrap the check of parameters that are to be set: whatever it raises refuses them, in one line."""

    @functools.wraps(check)
    def wrapper(parameters: list[Any]) -> SetParametersResult:
        try:
            return check(parameters)
        except XkdError as error:
            return SetParametersResult(successful=False, reason=str(error))
        except Exception as error:
            return SetParametersResult(successful=False, reason=_unexpected(error))

    return wrapper


def answered(node: Node, action: Callable[[], str], what: str) -> Callable[..., Any]:
    """Make the callback of a std_srvs/Trigger service.

    Args:
        node: For its logger.
        action: Returns the message of the answer; an XkdError is the answer "no".
        what: Start of the sentence in the log when something else is raised.
    """

    def callback(_: Any, response: Any) -> Any:
        try:
            response.success, response.message = True, action()
        except XkdError as error:
            response.success, response.message = False, str(error)
        except Exception as error:
            response.success, response.message = False, f"{what}: {_unexpected(error)}"
            node.get_logger().error(response.message)
        return response

    return callback


def every(node: Node, period_s: float, callback: Callable[[], None], what: str) -> None:
    """Call something again and again, guarded. By wall time: with use_sim_time and no /clock a ROS timer never fires."""
    node.create_timer(period_s, guarded(node, callback, what), clock=Clock(clock_type=ClockType.STEADY_TIME))


def transition(method: Callable[..., TransitionCallbackReturn]) -> Callable[..., TransitionCallbackReturn]:
    """Log what a lifecycle callback raises, which rclpy swallows, keep it as `node.transition_error`, and report ERROR."""

    @functools.wraps(method)
    def wrapper(node: Any, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return method(node, state)
        except Exception as error:
            node.transition_error = f"{method.__name__} failed: {_unexpected(error)}"
            node.get_logger().error(node.transition_error)
            return TransitionCallbackReturn.ERROR

    return wrapper


def refuse_impossible_transitions(node: LifecycleNode) -> None:
    """Answer a request for a transition that the present state does not have with `success: false`.

    rclpy raises instead, out of the service callback and through the executor: `ros2 lifecycle set /segmenter activate`, sent twice,
    ended the node.
    """
    service = node._service_change_state
    change = service.callback

    def callback(request: Any, response: Any) -> Any:
        try:
            return change(request, response)
        except RCLError as error:
            wanted = request.transition.label or f"number {request.transition.id}"
            state = node._state_machine.current_state[1]
            node.get_logger().warning(f"transition {wanted} is not possible in state '{state}': {str(error).split(', at /')[0]}")
            response.success = False
            return response

    service.callback = callback


def _unexpected(error: Exception) -> str:
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"unexpected {type(error).__name__}: {error} ({where.filename}:{where.lineno}); please report it"
