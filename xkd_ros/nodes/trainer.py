"""The trainer node: recorded bags, or pairs collected from topics, in; a model folder out.

What trains is `xkd learn` in a child, what adapts a model to a new place `xkd adapt`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rclpy.node import Node
from std_srvs.srv import Trigger

from xkd_ros.core.card import load_card
from xkd_ros.core.errors import ConfigError, XkdError
from xkd_ros.core.rig import load_rig
from xkd_ros.core.share import find_model
from xkd_ros.nodes.callbacks import answered, every
from xkd_ros.nodes.collector import Collector, collected_bags
from xkd_ros.nodes.parameters import split_names
from xkd_ros.nodes.running import run_node
from xkd_ros.nodes.trainer_parameters import TRAINER, USAGE, XKD, adapt_command, learn_command
from xkd_ros.nodes.training_process import TrainingProcess, TrainingReport
from xkd_ros.nodes.training_report import TrainerState, TrainingReporter

_TICK_S = 0.2
# A node leaves within two seconds; the training can be killed at any moment without losing more than its last minutes.
_LEAVE_S = 1.0
_STOP_S = 0.8


class TrainerNode(Node):
    """Collects, then trains or adapts, or only does that. Everything happens in the executor's thread; nothing in it waits for long."""

    def __init__(self, program: Sequence[str] = XKD, **node_arguments: Any) -> None:
        """Check what was asked for; start it if that was asked for too.

        Args:
            program: What starts `xkd`.
            node_arguments: For rclpy's Node.
        Raises:
            ConfigError: a wrong parameter, a file that is not there, or nothing to learn from.
            BagError: the collected bag cannot be written.
        """
        super().__init__(TRAINER.node_name, **node_arguments)
        TRAINER.declare(self)
        values = self._values = TRAINER.values(self)
        self._program = program
        self._work = Path(values.work)
        self._given = [Path(name) for name in split_names(values.bags)]
        self._check_files()
        self._progress = self._work / "progress.jsonl"
        self._training = TrainingProcess(self._progress, self._work / "learn.log", values.grace_s, values.niceness)
        self._idle_message = "~/start begins the training"
        self._problem = ""
        self._model_out = values.model_out
        self._reporter = TrainingReporter(self)
        self._collector = Collector(self, values, self._work / "collected") if values.collect else None
        if self._collector is None:
            self._bags()
            if values.autostart:
                self._train()
        self.create_service(Trigger, "~/start", answered(self, self._start, "not started"))
        self.create_service(Trigger, "~/adapt", answered(self, self._adapt, "not started"))
        self.create_service(Trigger, "~/stop", answered(self, self._stop, "not stopped"))
        every(self, _TICK_S, self._tick, "training")
        every(self, 1.0, self._publish_diagnostics, "diagnostics")

    def close(self) -> bool:
        """Finish the recording and end the training."""
        try:
            self._finish_collecting()
        finally:
            self._training.end(_LEAVE_S)
        return True

    def _check_files(self) -> None:
        for name, path in [*(("bags", path) for path in self._given), ("rig", self._values.rig), ("config", self._values.config)]:
            if path and not Path(path).exists():
                raise ConfigError(f"parameter '{name}': there is no {path}; give the path of what is there")
        if self._values.rig:
            load_rig(self._values.rig)
        if self._values.adapt_model:
            load_card(find_model(self._values.adapt_model))

    def _bags(self) -> list[Path]:
        """List what to learn from: what was given, and what was collected in this work folder."""
        bags = [*self._given, *collected_bags(self._work / "collected")]
        if not bags:
            raise ConfigError("no recordings to learn from; give -p bags:=PATH,PATH or collect some with -p collect:=true")
        return bags

    # Services

    def _start(self) -> str:
        self._refuse_to_begin()
        self._finish_collecting()
        return self._train()

    def _adapt(self) -> str:
        self._refuse_to_begin()
        model = find_model(self._values.adapt_model or self._values.model_out)
        model_hash = load_card(model).hash
        self._finish_collecting()
        bags = collected_bags(self._work / "collected")[-1:] or self._bags()
        command = adapt_command(self._program, self._values, model, model_hash, bags, self._progress)
        report = self._training.start(command, "adapting")
        return self._begun(f"adapting {model} to {', '.join(map(str, bags))}", report, self._values.adapt_out)

    def _refuse_to_begin(self) -> None:
        """Do nothing, unless something runs already or there is nothing to learn from.

        Raises:
            XkdError: which of them.
        """
        report = self._follow()
        if self._training.running:
            raise XkdError(f"{self._training.noun} is running already ({report.message})")
        if self._collector is not None and not self._collector.pairs and not (self._given or collected_bags(self._work / "collected")):
            raise XkdError(f"nothing to learn from yet: {self._collector.describe()}")

    def _stop(self) -> str:
        if self._collector is not None:
            return self._finish_collecting()
        self._follow()
        self._training.stop()
        # A service of rclpy cannot answer later without holding up the executor: wait as long as most trainings take to end.
        until_s = time.monotonic() + _STOP_S
        report = self._follow()
        while self._training.running and time.monotonic() < until_s:
            time.sleep(0.02)
            report = self._follow()
        if self._training.running:
            return f"stopping, at the latest in {self._values.grace_s:g} s by force; ~/progress tells when it is done"
        return report.message

    # Work

    def _train(self) -> str:
        bags = self._bags()
        report = self._training.start(learn_command(self._program, self._values, bags, self._progress))
        return self._begun(f"learning from {', '.join(map(str, bags))}", report, self._values.model_out)

    def _begun(self, what: str, report: TrainingReport, model_out: str) -> str:
        self._problem, self._model_out = "", model_out
        said = f"{what} in process {report.pid}, output in {self._work / 'learn.log'}"
        self.get_logger().info(said)
        return said

    def _finish_collecting(self) -> str:
        """Close the recording, if there is one.

        Raises:
            XkdError: it could not be written.
        """
        collector, self._collector = self._collector, None
        if collector is None:
            return ""
        try:
            collector.finish()
            if collector.problem:
                raise XkdError(collector.problem)
        except XkdError as error:
            self._problem = str(error)
            raise
        kept = f"{collector.pairs} pairs are in {collector.path}" if collector.pairs else "no pairs came, so nothing is kept"
        self._idle_message = f"collecting has ended, {kept}; ~/start begins the training"
        return self._idle_message

    def _tick(self) -> None:
        self._watch_collecting()
        self._reporter.publish_progress(self._state(self._follow()))

    def _follow(self) -> TrainingReport:
        """Look after the training; its end is told once."""
        was_running = self._training.running
        report = self._training.poll()
        if was_running and not self._training.running:
            learnt = report.state == "done" and self._training.noun == "training"
            # Two calls: rclpy remembers the severity of each place in the code and refuses another.
            if report.state == "failed":
                self.get_logger().error(report.message)
            else:
                self.get_logger().info(report.message + (f"; the model is in {self._model_out}" if learnt else ""))
        return report

    def _watch_collecting(self) -> None:
        """Give the synchronizer to the executor, which the constructor does not know yet; notice the end of the stream."""
        collector = self._collector
        if collector is None:
            return
        if collector.synchronizer.executor is None and self.executor is not None:
            self.executor.add_node(collector.synchronizer)
        silence_s = self._values.silence_s
        if not collector.problem and not (silence_s and collector.pairs and collector.silent_s() > silence_s):
            return
        try:
            self.get_logger().info(self._finish_collecting())
            if self._values.autostart:
                self._train()
        except XkdError as error:
            self._problem = str(error)
            self.get_logger().error(f"collecting: {error}")

    # Reports

    def _publish_diagnostics(self) -> None:
        self._reporter.publish_diagnostics(self._state(self._follow()))

    def _state(self, report: TrainingReport) -> TrainerState:
        facts = {"model": self._model_out, "work": self._values.work}
        state = TrainerState(report.state, report.message, report.stage, None, report.quiet_s, self._values.stale_s, facts)
        if self._collector is not None:
            return replace(state, state="collecting", message=self._collector.describe(), pairs=self._collector.pairs)
        if self._problem:
            return replace(state, state="failed", message=self._problem)
        return replace(state, message=self._idle_message) if report.state == "idle" else state


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node until it is told to stop; entry point of `xkd_trainer` and `ros2 run xkd_ros trainer`."""
    return run_node(TrainerNode, TRAINER, USAGE, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
