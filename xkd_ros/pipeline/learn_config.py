"""Everything that `xkd learn` needs to know, in one strict file: which teacher, which classes, how each stage works."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, PrivateAttr, model_validator

from xkd_ros.bags.frame_config import FrameConfig
from xkd_ros.core.card import GeometryConfig, NetworkConfig
from xkd_ros.core.config import change, load_yaml, validate
from xkd_ros.distill.methods import FINETUNE, METHODS, MethodConfig
from xkd_ros.distill.pseudo_config import PseudoConfig
from xkd_ros.distill.recipe import DistilConfig, FinetuneConfig, ProbeConfig, Recipe, StageConfig
from xkd_ros.distill.student_input import StudentConfig
from xkd_ros.teacher.config import TargetConfig, TeacherConfig
from xkd_ros.teacher.model_folder import DEFAULT_TEACHER

StageT = TypeVar("StageT", bound=StageConfig)


class LearnConfig(BaseModel):
    """One run of `xkd learn`; every key can be changed by `--set key=value`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    _given: dict[str, Any] = PrivateAttr(default_factory=dict)

    recipe: Recipe = Field("indoor", description="of distillation, probing and fine-tuning, unless one of them names its own")
    classes: str = Field("indoor12", description="class map: a preset of config/classes, or a YAML file")
    teacher: str = Field(DEFAULT_TEACHER, description="features to distil: folder or hub id, or a teacher that comes with the package")
    label_teacher: str | None = Field(None, description="class scores for the pseudo-labels; none: those of `teacher`")
    labels: Literal["pseudo", "given", "both"] = Field(
        "pseudo", description="pseudo: the teacher's alone; given: those of --labels in training frames; both: given, else pseudo"
    )
    start: Path | None = Field(
        None, description="model folder, or public WaffleIron checkpoint, to fine-tune; none: distil from the teacher"
    )
    network: NetworkConfig = NetworkConfig()
    student: StudentConfig = StudentConfig(geometry=GeometryConfig(align_heading=True))
    frames: FrameConfig = FrameConfig()
    looks: TeacherConfig = TeacherConfig()
    targets: TargetConfig = TargetConfig()
    cache: bool = Field(True, description="keep the teacher's answers on disk; without, it looks at every image in every epoch")
    distill: DistilConfig = DistilConfig()
    pseudo: PseudoConfig = PseudoConfig()
    probe: ProbeConfig = ProbeConfig()
    finetune: MethodConfig = Field(default_factory=FinetuneConfig, discriminator="method", description="`method` chooses among the four")

    @model_validator(mode="before")
    @classmethod
    def _hand_down_recipe(cls, given: Any) -> Any:
        """Tell each stage the recipe; that of a method is our own recipe with this method as its last stage."""
        if not isinstance(given, dict):
            return given
        asked = given.get("recipe")
        if asked is not None and asked not in (known := (*get_args(Recipe), *METHODS)):
            raise ValueError(f"there is no recipe '{asked}'; use {', '.join(sorted(known))}")
        stages = {name: stage for name in ("distill", "probe", "finetune") if isinstance(stage := given.get(name, {}), dict)}
        method = asked if asked in METHODS else FINETUNE
        named = stages.get("finetune", {}).get("method", method)
        if asked in METHODS and named != asked:
            raise ValueError(f"recipe {asked} and finetune.method {named} contradict each other: leave one of them out")
        recipe = "indoor" if asked in METHODS else asked
        handed = {name: {**({} if recipe is None else {"recipe": recipe}), **stage} for name, stage in stages.items()}
        if "finetune" in handed:
            handed["finetune"] = {"method": method, **handed["finetune"]}
        return {**given, **handed, **({} if recipe is None else {"recipe": recipe})}

    @model_validator(mode="after")
    def _works_together(self) -> LearnConfig:
        precisions = {
            name: stage.precision for name, stage in (("distill", self.distill), ("probe", self.probe), ("finetune", self.finetune))
        }
        if len(set(precisions.values())) > 1:
            given = ", ".join(f"{name} {precision}" for name, precision in precisions.items())
            raise ValueError(f"one precision serves all stages, found {given}: set it for all three")
        asking = {"distill": self.distill, **({} if self.finetune.method == FINETUNE else {"finetune": self.finetune})}
        busy = [name for name, stage in asking.items() if stage.workers]
        if not self.cache and busy:
            raise ValueError(f"without cache the teacher looks while the student learns, in the same process: set {busy[0]}.workers to 0")
        return self

    # Written last, so that it comes first: it sees what was given before recipes fill it in.
    @model_validator(mode="wrap")
    @classmethod
    def _remember(cls, given: Any, validated: ModelWrapValidatorHandler[Self]) -> Self:
        config = validated(given)
        if isinstance(given, dict):
            config._given = copy.deepcopy(given)
        return config

    @property
    def given(self) -> dict[str, Any]:
        """What was said, without what recipes and defaults add: changed and validated again, another recipe still has its effect."""
        return self._given

    def loaded(self, stage: StageT) -> StageT:
        """Return a stage that the teacher may take part in: without stored answers it looks in the same process, so none loads data."""
        return stage if self.cache else stage.model_copy(update={"workers": 0})

    @property
    def teachers(self) -> tuple[str, ...]:
        """What looks at the images: one model for features and scores, or one for each."""
        return (self.teacher,) if self.label_teacher in (None, self.teacher) else (self.teacher, str(self.label_teacher))


def read_config(path: Path | None, changes: Sequence[str] = (), **named: str | None) -> LearnConfig:
    """Read the settings of a run.

    Args:
        path: YAML; None: what is built in.
        changes: `key=value` lines over it.
        named: Top-level keys given as options of their own, None where not given; they win over the file.
    Raises:
        ConfigError: a wrong key or value.
    """
    lines = [*(f"{key}={value}" for key, value in named.items() if value is not None), *changes]
    if path is not None:
        return load_yaml(path, LearnConfig, lines)
    return validate(change({}, lines), LearnConfig, "settings")
