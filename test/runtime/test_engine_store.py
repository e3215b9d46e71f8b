"""An engine is found again only whole, unaltered, and for exactly what it was built for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from xkd_ros.core.card import ModelCard
from xkd_ros.core.errors import XkdError
from xkd_ros.runtime.engine_store import EngineFacts, EngineStore, engine_key
from xkd_ros.runtime.onnx_inputs import whole_grid_inputs
from xkd_ros.runtime.probe import probe_inputs
from xkd_ros.runtime.tensorrt_builder import shape_profile

FACTS = EngineFacts(graph="ab", precision="float16", gpu="A", version="10.3", version_compatible=False, agreement=0.998, built_s=90.5)
SHAPES = {"x": ((1,), (2,), (3,))}


def test_key_depends_on_every_fact_but_what_was_measured() -> None:
    changes = ({"graph": "b"}, {"precision": "float32"}, {"gpu": "B"}, {"version": "10.4"}, {"version_compatible": True})
    keys = {FACTS.key(SHAPES), FACTS.key({}), *(FACTS.model_copy(update=change).key(SHAPES) for change in changes)}
    assert len(keys) == 2 + len(changes)
    assert FACTS.model_copy(update={"agreement": 0.5, "built_s": 1.0}).key(SHAPES) == FACTS.key(SHAPES)
    compatible = FACTS.model_copy(update={"version_compatible": True})
    assert compatible.key(SHAPES) == compatible.model_copy(update={"version": "11.0"}).key(SHAPES)
    assert engine_key(a=1, b=2) == engine_key(b=2, a=1) != engine_key(a=1, b=3)


def test_round_trip_and_forgetting(tmp_path: Path) -> None:
    store = EngineStore(tmp_path / "engines")
    assert store.get("k") is None
    store.put("k", b"engine", FACTS)
    assert store.get("k") == (b"engine", FACTS)
    assert {path.name for path in (tmp_path / "engines").iterdir()} == {"k.plan", "k.json"}
    store.forget("k")
    store.forget("k")
    assert store.get("k") is None


@pytest.mark.parametrize("damage", ["altered", "cut", "no plan", "no facts", "not json", "no number", "unknown", "list"])
def test_damaged_engines_are_not_used(tmp_path: Path, damage: str) -> None:
    store = EngineStore(tmp_path)
    store.put("k", b"engine", FACTS)
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
            facts.write_text(json.dumps({**json.loads(facts.read_text()), "agreement": "much"}))
        case "unknown":
            facts.write_text(json.dumps({**json.loads(facts.read_text()), "colour": "red"}))
        case "list":
            facts.write_text("[]")
    assert store.get("k") is None and store.of_graph("ab") == []


def test_unwritable_store_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(XkdError, match="cannot write"):
        EngineStore(tmp_path / "file").put("k", b"engine", FACTS)


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
