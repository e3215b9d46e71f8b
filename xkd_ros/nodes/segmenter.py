"""The segmenter node: a scan in on `points`, the same scan with a name for every point out on `semantic_points`."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.exceptions import InvalidHandle
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool

from xkd_ros.core.card import load_card
from xkd_ros.core.errors import XkdError
from xkd_ros.core.share import find_model
from xkd_ros.nodes.callbacks import every, guarded, refuse_impossible_transitions, refusing, transition
from xkd_ros.nodes.diagnostics import DiagnosticsReport
from xkd_ros.nodes.frame_statistics import FrameStatistics
from xkd_ros.nodes.labelling_stream import LabellingStream
from xkd_ros.nodes.model_loader import LoadedModel, ModelLoader, load_labeller_while, not_kept
from xkd_ros.nodes.odometry import OdometryPoses
from xkd_ros.nodes.output_layout import make_layout
from xkd_ros.nodes.running import run_node
from xkd_ros.nodes.segmenter_parameters import SEGMENTER, USAGE, parse_base_from_lidar
from xkd_ros.nodes.verdict import SegmenterState

if TYPE_CHECKING:
    from xkd_ros.nodes.labeller import Labeller
    from xkd_ros.nodes.pictures import Pictures

# A change of these loads the model again, beside the old one.
_OF_THE_MODEL = ("model", "backend", "num_threads", "outside")
_SUCCESS, _FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class SegmenterNode(LifecycleNode):
    """Lifecycle: configure loads the model and offers the topics, activate listens and labels.

    `build_only` sets `finished`, and `failed` to what went wrong.
    """

    def __init__(self, **node_arguments: Any) -> None:
        """Declare parameters and, with `autostart`, get going as soon as an executor spins.

        Args:
            node_arguments: For rclpy's Node, such as parameter_overrides.
        Raises:
            ConfigError: a parameter that does not exist or is out of range, or no camera for `fused`.
        """
        super().__init__(SEGMENTER.node_name, **node_arguments)
        SEGMENTER.declare(self)
        refuse_impossible_transitions(self)
        self._loaded_from = SEGMENTER.values(self)
        self._poses = self._hear_odometry() if self._loaded_from.temporal_fusion else None
        self._pictures = self._hear_cameras() if self._loaded_from.fused else None
        self._stream: LabellingStream | None = None
        self._problem = ""
        self.finished, self.failed = threading.Event(), "ended before it was built" if self._loaded_from.build_only else ""
        self.transition_error = ""
        self._reverting = False
        self._loader = ModelLoader(self._on_loaded)
        self._result_ready = self.create_guard_condition(guarded(self, self._on_result, "model not changed"))
        self._report = DiagnosticsReport(self)
        every(self, 1.0, self._publish_diagnostics, "diagnostics")
        self.create_service(SetBool, "~/set_enabled", self._on_set_enabled)
        self.add_on_set_parameters_callback(refusing(self._check))
        self.add_post_set_parameters_callback(guarded(self, self._on_parameters, "parameters"))
        self._starting = False
        self._preloaded: tuple[Labeller, SimpleNamespace] | None = None
        if self._loaded_from.autostart or self._loaded_from.build_only:
            self._load_and_start()

    def _hear_odometry(self) -> OdometryPoses:
        return OdometryPoses(self, parse_base_from_lidar(self._loaded_from.base_from_lidar))

    def _hear_cameras(self) -> Pictures:
        # Imported here: a robot without cameras needs none of what decodes pictures.
        from xkd_ros.nodes.pictures import Pictures

        return Pictures(self, self._loaded_from)

    def close(self) -> bool:
        """Stop working; returns False when a thread is still inside a library."""
        ended = self._stream is None or self._stream.close()
        self._loader.cancel()
        return ended and not self._loader.busy

    def destroy_node(self) -> None:
        """Destroy the node, and the state machine that rclpy leaves: it would keep the participant and its shared memory."""
        super().destroy_node()
        self._state_machine.destroy_when_not_in_use()

    # Lifecycle

    def _load_and_start(self) -> None:
        """Configure and activate when the model is there; until then the node answers, reports, and can be stopped."""
        self._starting = True
        self._problem = ""
        self._loader.request(SEGMENTER.values(self))

    def _start(self, loaded: LoadedModel) -> None:
        labeller, values, problem = loaded
        self._starting = False
        if values.build_only:
            self.failed = problem or not_kept(values)
            if labeller is not None:
                self.get_logger().info(labeller.describe())
            if self.failed:
                self.get_logger().error(f"not built: {self.failed}")
            self.finished.set()
            return
        if self._lifecycle_label != "unconfigured":
            return  # somebody was quicker through the lifecycle services
        if labeller is None:
            self._problem = problem
            self.get_logger().error(f"not configured: {problem}")
            return
        self._preloaded = (labeller, values)
        if self.trigger_configure() == _SUCCESS:
            self.trigger_activate()

    @transition
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and create the output topics."""
        preloaded, self._preloaded = self._preloaded, None
        if preloaded is None and not self._loaded_from.build_only:  # somebody is quicker than the automatic start
            self._stop_loading()
        try:
            labeller, values = preloaded or self._load()
            labeller.configure(SEGMENTER.values(self))
        except XkdError as error:
            self._problem = str(error)
            self.get_logger().error(f"not configured: {error}")
            return _FAILURE
        self._problem = ""
        poses, pictures = self._poses, self._pictures
        self._stream = LabellingStream(self, values, poses.pose if poses else None, pictures.views if pictures else None)
        self._use(self._stream, labeller, values)
        self.get_logger().info(labeller.describe())
        return super().on_configure(state)

    def _load(self) -> tuple[Labeller, SimpleNamespace]:
        values = SEGMENTER.values(self)
        return load_labeller_while(values, self.context.ok), values

    @transition
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to listen and to label."""
        assert self._stream is not None  # configured before, or rcl would not have called this
        result = super().on_activate(state)
        self._stream.start()
        self.get_logger().info(f"labelling {self._stream.input_topic}, result on {self._stream.output_topic}")
        return result

    @transition
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop listening; what is in work is still published."""
        if self._stream is not None:
            self._stream.stop()
        return super().on_deactivate(state)

    @transition
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give back model and topics."""
        self._release()
        return super().on_cleanup(state)

    @transition
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End from any state."""
        self._release()
        return super().on_shutdown(state)

    @transition
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After an exception in a transition: back to unconfigured, where it can be tried again."""
        self._problem = self.transition_error
        self._release()
        return _SUCCESS

    def _stop_loading(self) -> None:
        self._loader.cancel()
        self._starting = False

    def _release(self) -> None:
        self._stop_loading()
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.destroy()

    @property
    def _lifecycle_label(self) -> str:
        return str(self._state_machine.current_state[1])

    # Parameters and services

    def _check(self, parameters: list[Parameter]) -> SetParametersResult:
        """Refuse a model folder that cannot work before it is loaded, and an output layout that does not fit the model."""
        if wrong := SEGMENTER.problem(parameters):  # rclpy asks the youngest callback first
            return SetParametersResult(successful=False, reason=wrong)
        values = SEGMENTER.values(self)
        values.__dict__.update({parameter.name: parameter.value for parameter in parameters})
        labeller = self._stream.labeller if self._stream is not None else None
        card = labeller.card if labeller is not None and values.model == self._loaded_from.model else None
        if card is None and (labeller is not None or any(parameter.name == "model" for parameter in parameters)):
            card = load_card(find_model(values.model))
        if card is not None:
            make_layout(values, card)
        return SetParametersResult(successful=True)

    def _on_parameters(self, parameters: list[Parameter]) -> None:
        names = {parameter.name for parameter in parameters}
        values = SEGMENTER.values(self)
        stream = self._stream
        if stream is None:
            # Whatever was wrong, any parameter may have put it right.
            if values.autostart and names & set(SEGMENTER.specs if self._problem else _OF_THE_MODEL if self._starting else ()):
                self._load_and_start()
            return
        stream.configure(values)
        if self._reverting:
            return
        if names & set(_OF_THE_MODEL):
            self._loader.request(values)
        elif stream.labeller is not None and values.model == self._loaded_from.model and names & set(SEGMENTER.specs):
            self._use(stream, stream.labeller, self._loaded_from)

    def _use(self, stream: LabellingStream, labeller: Labeller, values: SimpleNamespace) -> None:
        """Label with a model under the parameters as they are now: since it was asked for they may have changed.

        Args:
            stream: Where.
            labeller: The model.
            values: What it was loaded from.
        Raises:
            ConfigError: it does not fit them; everything stays as it was.
        """
        present = SEGMENTER.values(self)
        labeller.configure(present)
        self._loaded_from = values
        stream.configure(present)
        stream.use(labeller)

    def _on_loaded(self) -> None:
        """Continue in the executor's thread."""
        with suppress(InvalidHandle):  # the node was destroyed while the model was being loaded: nobody waits for it
            self._result_ready.trigger()

    def _on_result(self) -> None:
        loaded = self._loader.take()
        if loaded is None:
            return
        if self._starting:
            self._start(loaded)
        elif self._stream is not None:
            self._swap(self._stream, loaded)

    def _swap(self, stream: LabellingStream, loaded: LoadedModel) -> None:
        labeller, values, problem = loaded
        if labeller is not None:
            try:
                self._use(stream, labeller, values)
            except XkdError as error:
                problem = str(error)
            else:
                self.get_logger().info(f"model changed: {labeller.describe()}")
                return
        self.get_logger().error(f"going on with the model that was loaded: {problem}")
        self._revert(stream)

    def _revert(self, stream: LabellingStream) -> None:
        """Set the parameters back to the model that runs, and those that came with the other one and do not fit it too."""
        assert stream.labeller is not None
        running = {name: getattr(self._loaded_from, name) for name in _OF_THE_MODEL}
        try:
            make_layout(SimpleNamespace(**{**vars(SEGMENTER.values(self)), **running}), stream.labeller.card)
        except XkdError:
            running = {name: getattr(stream.labeller.values, name) for name, spec in SEGMENTER.specs.items() if not spec.fixed} | running
        self._reverting = True
        try:
            self.set_parameters_atomically([Parameter(name, value=value) for name, value in running.items()])
        finally:
            self._reverting = False
        self._use(stream, stream.labeller, self._loaded_from)

    def _on_set_enabled(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        result = self.set_parameters([Parameter("enabled", value=request.data)])[0]
        response.success = result.successful
        response.message = result.reason or ("labelling is enabled" if request.data else "labelling is disabled")
        return response

    # Diagnostics

    def _publish_diagnostics(self) -> None:
        values = SEGMENTER.values(self)
        topic = self.resolve_topic_name("points")
        unfused = self._poses.problem if self._poses is not None else ""
        unheard = self._pictures.deaf_to() if self._pictures is not None else ()
        state, statistics = (
            SegmenterState(
                lifecycle="loading the model" if self._starting else self._lifecycle_label,
                problem=self._problem if self._stream is None else "",
                enabled=values.enabled,
                publishers=self.count_publishers(topic),
                input_topic=topic,
                target_hz=values.target_hz,
                stale_s=values.stale_s,
                complaints=(*unheard, f"labels are not fused: {unfused}") if unfused else unheard,
            ),
            FrameStatistics(),
        )
        if self._stream is not None:
            state, statistics = self._stream.complete(state), self._stream.statistics
        self._report.publish(state, statistics.snapshot())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node until it is told to stop; entry point of `xkd_segmenter` and `ros2 run xkd_ros segmenter`."""
    return run_node(SegmenterNode, SEGMENTER, USAGE, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
