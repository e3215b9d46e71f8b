"""`xkd validate`: what it leaves in a model's card."""

from __future__ import annotations

from pathlib import Path

import pytest

from xkd_ros.core.card import load_card
from xkd_ros.core.errors import ConfigError
from xkd_ros.core.files import write_atomic
from xkd_ros.core.share import find_model
from xkd_ros.pipeline import validation


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the default model."""
    for file in find_model("indoor-24x64").iterdir():
        write_atomic(tmp_path / "indoor-24x64" / file.name, file.read_bytes())
    return tmp_path / "indoor-24x64"


def test_entropy_of_simulated_buildings_goes_into_the_card(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "RIGS", ("ouster16",))
    before = load_card(model)
    validation.run_validation(model, None, None, "63-63", None, remember_entropy=True)
    after = load_card(model)
    assert after.usual_entropy is not None and 0.02 < after.usual_entropy < 0.3  # building 63 is an easy one
    assert sum(after.metrics["entropy"]["counts"]) > 10_000
    assert {**after.metrics, "entropy": None} == {**before.metrics, "entropy": None} and after.files == before.files


def test_nothing_simulated_nothing_to_remember(model: Path) -> None:
    with pytest.raises(ConfigError, match="give --seeds"):
        validation.run_validation(model, None, None, "", None, remember_entropy=True)
