"""What every node's `main` shares: arguments, --help, one-line errors, and leaving within two seconds of SIGINT or SIGTERM."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.utilities import remove_ros_args

from xkd_ros.core.errors import XkdError
from xkd_ros.nodes.callbacks import RCLError
from xkd_ros.nodes.parameters import ParameterTable, did_you_mean

_SHUTDOWN_S = 0.8


class _RosLogHandler(logging.Handler):
    """Hand the records of the rooms below to the node's logger."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._logger = node.get_logger()

    def emit(self, record: logging.LogRecord) -> None:
        message = self.format(record)
        if record.levelno >= logging.ERROR:
            self._logger.error(message)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(message)
        else:
            self._logger.info(message)


def run_node(make_node: Callable[[], Node], table: ParameterTable, usage: str, arguments: Sequence[str] | None = None) -> int:
    """Run one node until it is told to stop, then end the process.

    The exit code is 0 after a normal end or a signal, 1 after an error that was printed as one line or a signal that came before the node
    was there, 2 for wrong arguments.

    Args:
        make_node: Builds the node; called after rclpy.init. The node may offer `close()`, which finishes its work within a second, and
            `finished`, a threading.Event that ends the run, with exit code 1 when its `failed` is not empty.
        table: Its parameters, for --help and for strict reading.
        usage: What --help says above the parameters.
        arguments: Command line without the program name; None takes sys.argv.
    Returns:
        The exit code where no node was started (--help, wrong arguments).
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if "-h" in given or "--help" in given:
        sys.stdout.write(f"{usage}\n\nParameters (name:=default [allowed]):\n{table.render_help()}\n")
        return 0
    try:
        rest = remove_ros_args(args=["program", *given])[1:]
    except Exception as error:  # rclpy's own error types are private
        sys.stderr.write(f"error: {_without_source_lines(error)}\n")
        return 2
    if rest:
        hint = did_you_mean(rest[0].lstrip("-").split("=")[0].split(":")[0], table.specs)
        sys.stderr.write(f"error: unexpected argument '{rest[0]}'; parameters are given as --ros-args -p name:=value{hint}\n")
        return 2
    return _run(make_node, table, given)


def _run(make_node: Callable[[], Node], table: ParameterTable, given: list[str]) -> NoReturn:
    node: Node | None = None
    # Lives until the process ends: rclpy's signal thread may still touch its guard conditions after the loop has seen the signal.
    executor: SingleThreadedExecutor | None = None
    code, begun = 0, False
    try:
        rclpy.init(args=given)
        begun = True
        executor = SingleThreadedExecutor()
        node = make_node()
        for sentence in table.unused_files(node, given):
            node.get_logger().warning(sentence)
        logging.getLogger("xkd_ros").addHandler(_RosLogHandler(node))
        _spin(node, executor)
    except (KeyboardInterrupt, ExternalShutdownException):
        code = int(node is None)
    except (XkdError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        code = 1
    except Exception as error:
        if rclpy.ok() and node is None and isinstance(error, RCLError):
            sys.stderr.write(f"error: the node cannot be created: {_without_source_lines(error)}\n")
            code = 1
        elif rclpy.ok():
            traceback.print_exc()
            code = 1
        elif begun:  # a signal took the context away from what was under way
            code = int(node is None)
        else:
            sys.stderr.write(f"error: {_without_source_lines(error)}\n")
            code = 2
    _leave(node, code or int(bool(getattr(node, "failed", ""))))


def _without_source_lines(error: Exception) -> str:
    """Keep what rcl says about a bad command line or parameter file; where in rcl it was noticed helps nobody."""
    return str(error).split(", at /")[0]


def _spin(node: Node, executor: SingleThreadedExecutor) -> None:
    executor.add_node(node)
    finished: threading.Event | None = getattr(node, "finished", None)
    while rclpy.ok() and not (finished is not None and finished.is_set()):
        executor.spin_once(timeout_sec=0.2)


def _leave(node: Node | None, code: int) -> NoReturn:
    """Close the node and end the process.

    The process ends without the interpreter's own clean-up: with torch and Fast DDS loaded that was seen to hang for half a minute on a
    busy machine. What must be written is written by the node's `close`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # launch sends it to the whole group, often twice
    try:
        close: Callable[[], bool] | None = getattr(node, "close", None)
        if close is not None:
            close()
    except XkdError as error:
        sys.stderr.write(f"error: {error}\n")
        code = 1
    # A thread that is still inside a library must not keep the process; what it holds goes with it.
    watchdog = threading.Timer(_SHUTDOWN_S, _end, (code,))
    watchdog.daemon = True
    watchdog.start()
    # Tells the other nodes at once that this one is gone, and gives its shared memory back.
    if node is not None:
        node.destroy_node()
    rclpy.try_shutdown()
    _end(code)


def _end(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
