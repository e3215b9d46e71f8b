"""An engine is found again only whole, unaltered, and for exactly what it was built for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from xkd_ros.core.card import ModelCard
from xkd_ros.core.errors import XkdError
from xkd_ros.runtime.engine_store import EngineStore, engine_key
from xkd_ros.runtime.onnx_inputs import whole_grid_inputs
from xkd_ros.runtime.probe import probe_inputs
from xkd_ros.runtime.tensorrt_backend import shape_profile

FACTS = {"graph": "ab", "precision": "float16", "shapes": {"x": ((1,), (2,), (3,))}, "gpu": "A", "version": "10.3"}


def test_key_depends_on_every_fact() -> None:
    keys = {engine_key(**FACTS)}
    for name in FACTS:
        keys.add(engine_key(**{**FACTS, name: "other"}))
    assert len(keys) == 1 + len(FACTS) and engine_key(**FACTS) in keys


def test_round_trip_and_forgetting(tmp_path: Path) -> None:
    store = EngineStore(tmp_path / "engines")
    assert store.get("k") is None
    store.put("k", b"engine", 0.998)
    assert store.get("k") == (b"engine", 0.998)
    assert {path.name for path in (tmp_path / "engines").iterdir()} == {"k.plan", "k.json"}
    store.forget("k")
    store.forget("k")
    assert store.get("k") is None


@pytest.mark.parametrize("damage", ["altered", "cut", "no plan", "no facts", "not json", "no number", "list"])
def test_damaged_engines_are_not_used(tmp_path: Path, damage: str) -> None:
    store = EngineStore(tmp_path)
    store.put("k", b"engine", 1.0)
    plan, facts = tmp_path / "k.plan", tmp_path / "k.json"
    match damage:
        case "altered":
            plan.write_bytes(b"Engine")
        case "cut":
            plan.write_bytes(b"engin")
        case "no plan":
            plan.unlink()
        case "no facts":
            facts.unlink()
        case "not json":
            facts.write_text("{")
        case "no number":
            facts.write_text(json.dumps({"agreement": "much", "sha256": ""}))
        case "list":
            facts.write_text("[]")
    assert store.get("k") is None


def test_unwritable_store_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(XkdError, match="cannot write"):
        EngineStore(tmp_path / "file").put("k", b"engine", 1.0)


def test_shape_profile_covers_what_scans_need() -> None:
    card = ModelCard()
    profile = shape_profile(card)
    for net_input in probe_inputs(card):
        arrays = whole_grid_inputs(net_input)
        assert set(arrays) == set(profile)
        for name, array in arrays.items():
            smallest, usual, largest = profile[name]
            assert len(smallest) == array.ndim
            for low, middle, high, size in zip(smallest, usual, largest, array.shape):
                assert 1 <= low <= middle <= high and low <= size <= high, name
