"""The numbers of the papers, what may be changed, and learning rates layer by layer."""

from __future__ import annotations

import pytest

from xkd_ros.core.card import NetworkConfig
from xkd_ros.core.config import validate
from xkd_ros.core.errors import ConfigError
from xkd_ros.distill.layer_decay import layer_groups
from xkd_ros.distill.recipe import DistilConfig, FinetuneConfig, ProbeConfig
from xkd_ros.nets.heads import ClassifyingStudent, make_backbone
from xkd_ros.train.config import EngineConfig
from xkd_ros.train.schedule import learning_rate

SCANS = 55_100


def test_scalr_distillation_is_as_published() -> None:
    config = DistilConfig(recipe="scalr")
    engine = config.engine(SCANS, 1)
    assert (engine.lr, engine.weight_decay, engine.batch, engine.warmup_steps, engine.min_lr) == (2e-3, 0.03, 8, 3500, 1e-5)
    assert engine.steps == round(25 * SCANS / 8) and engine.schedule == "cosine" and engine.decay_vectors
    assert config.head_hidden is None and config.drop_path == 0 and config.activation == "relu"
    assert config.pairs.student_input == "frustum" and config.input.augmentation == "paper" and not config.equal_scans
    assert engine.clip_norm is None and engine.average_decay == 0 and engine.beta2 == 0.999


# METHODS 2.4.
@pytest.mark.parametrize(("epoch", "rate"), [(1, 2e-3), (5, 6.4e-4), (20, 3.0e-4), (63, 1.7e-4), (64, 8.4e-5)])
def test_scalr_plus_distillation_is_as_published(epoch: int, rate: float) -> None:
    config = DistilConfig(recipe="scalr_plus")
    engine = config.engine(SCANS, 4)
    assert (config.head_hidden, config.drop_path, config.activation, engine.batch) == (2048, 0.2, "gelu", 2)
    assert float(f"{learning_rate(round(epoch * SCANS / 8), engine):.1e}") == rate


@pytest.mark.parametrize(("recipe", "min_lr"), [("scalr", 1e-5), ("scalr_plus", 0.0)])
def test_probing_is_as_published(recipe: str, min_lr: float) -> None:
    config = ProbeConfig(recipe=recipe)
    engine = config.engine(800, 1)
    assert (engine.lr, engine.weight_decay, engine.steps, engine.warmup_steps, engine.min_lr) == (1e-3, 3e-3, 2000, 200, min_lr)
    assert config.drop_path == 0 and config.input.augmentation == "paper_double"


@pytest.mark.parametrize(
    ("recipe", "share", "lr", "decay", "epochs", "warmup"),
    [
        ("scalr", 1.0, 2e-3, 0.99, 25, 2),
        ("scalr", 0.1, 2e-3, 0.95, 45, 4),
        ("scalr", 0.01, 2e-3, 0.95, 45, 4),
        ("scalr_plus", 1.0, 1e-4, 0.99, 25, 2),
        ("scalr_plus", 0.01, 1e-4, 0.99, 45, 4),
    ],
)
def test_fine_tuning_is_as_published(recipe: str, share: float, lr: float, decay: float, epochs: int, warmup: int) -> None:
    config = FinetuneConfig(recipe=recipe, label_share=share)
    assert (config.lr, config.layer_decay, config.epochs, config.warmup_epochs) == (lr, decay, epochs, warmup)
    assert config.weight_decay == 0 and config.min_lr == 0 and config.drop_path == 0.2


def test_single_fields_win_over_the_recipe() -> None:
    config = DistilConfig.model_validate({"recipe": "scalr", "epochs": 3, "pairs": {"student_input": "scan"}, "input": {"max_points": 900}})
    assert config.epochs == 3 and config.pairs.student_input == "scan" and not config.pairs.skip_edges
    assert config.input.max_points == 900 and config.input.augmentation == "paper" and config.lr == 2e-3
    assert DistilConfig.model_validate(config.model_dump(mode="json")) == config
    assert FinetuneConfig.model_validate_json(FinetuneConfig(label_share=0.1).model_dump_json()) == FinetuneConfig(label_share=0.1)


def test_wrong_keys_and_recipes_are_named() -> None:
    with pytest.raises(ConfigError, match="epoch"):
        validate({"recipe": "scalr", "epoch": 3}, DistilConfig, "file")
    with pytest.raises(ConfigError, match="recipe"):
        validate({"recipe": "scaler"}, DistilConfig, "file")
    with pytest.raises(ConfigError, match="recipe"):
        validate({"recipe": ["scalr"]}, DistilConfig, "file")
    for model in (DistilConfig, EngineConfig):
        with pytest.raises(ConfigError, match="seed"):
            validate({"seed": -1}, model, "file")


def test_steps_given_by_hand_shorten_the_whole_schedule() -> None:
    engine = DistilConfig(recipe="scalr_plus", steps=650).engine(SCANS, 1)
    assert (engine.steps, engine.warmup_steps, engine.cooldown_steps) == (650, 10, 20) and engine.decay_steps == pytest.approx(4.5)
    assert DistilConfig(recipe="scalr", steps=100).engine(SCANS, 1).warmup_steps == 25
    assert ProbeConfig(steps=1).engine(1, 1).steps == 1


def test_a_batch_that_cannot_be_divided_is_refused() -> None:
    assert ProbeConfig(batch=8, accumulate=2).engine(100, 2).batch == 2
    with pytest.raises(ConfigError, match="multiple of 6"):
        ProbeConfig(batch=8, accumulate=2).engine(100, 3)


# METHODS 2.6: scale of the embedding.
@pytest.mark.parametrize(("depth", "high", "low"), [(12, 0.88, 0.51), (24, 0.78, 0.28), (48, 0.61, 0.08)])
def test_layer_decay_is_the_published_one(depth: int, high: float, low: float) -> None:
    network = NetworkConfig(depth=depth, width=4)
    model = ClassifyingStudent(network, make_backbone(network), frozen=False)
    for decay, embedding in ((0.99, high), (0.95, low)):
        groups = layer_groups(model, decay, False)
        scale = {id(p): group.scale for group in groups for p in group.parameters}
        assert round(scale[id(model.backbone.embedding.merge.weight)], 2) == embedding
        assert scale[id(model.head.linear.weight)] == 1.0
        last = model.backbone.spatial[depth - 1]
        assert scale[id(last.scale)] == scale[id(model.backbone.channel[depth - 1].linear1.weight)] == pytest.approx(decay)
        assert len(scale) == sum(len(group.parameters) for group in groups) == len(list(model.parameters()))
        assert all(group.decayed == (p.ndim > 1) for group in groups for p in group.parameters)


def test_a_frozen_backbone_has_no_group() -> None:
    network = NetworkConfig(depth=2, width=4)
    model = ClassifyingStudent(network, make_backbone(network), frozen=True)
    found = {id(p) for group in layer_groups(model, 1.0, True) for p in group.parameters}
    assert found == {id(p) for p in model.head.parameters()}
