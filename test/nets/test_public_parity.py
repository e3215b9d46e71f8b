"""Same weights and input as the public implementation, where a checkout of it is at hand (never part of this project)."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from xkd_ros.nets.batch import collate
from xkd_ros.nets.checkpoint import load_foreign

VARIABLE = "XKD_REFERENCE_WAFFLEIRON"


@pytest.fixture(scope="module")
def public() -> Iterator[ModuleType]:
    checkout = os.environ.get(VARIABLE)
    if not checkout:
        pytest.skip(f"{VARIABLE} names no checkout of github.com/valeoai/WaffleIron")
    sys.path.insert(0, checkout)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield importlib.import_module("waffleiron")
    finally:
        sys.path.remove(checkout)


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_same_logits_as_the_public_code(public: ModuleType, tmp_path: Path, make_scan, norm: str) -> None:
    scan = make_scan(9, 700)
    torch.manual_seed(0)
    kind = "layernorm" if norm == "layer" else "batchnorm"
    theirs = public.Segmenter(5, 24, 5, 6, [list(grid) for grid in scan.grids], which_norm=kind, layer_norm=norm == "layer")
    count = len(scan)
    features = torch.from_numpy(scan.features).T[None].contiguous()
    own = torch.arange(count)[None]
    inputs = (
        features,
        torch.from_numpy(scan.cells)[None],
        torch.ones(1, count),
        torch.cat([own, torch.from_numpy(scan.neighbours).T])[None],
    )
    with torch.no_grad():
        theirs.train()(*inputs)  # moves the running statistics away from their start
        expected = theirs.eval()(*inputs)[0].T
    torch.save({"net": {f"module.{key}": value for key, value in theirs.state_dict().items()}}, tmp_path / "public.pth")
    ours = load_foreign(tmp_path / "public.pth")
    assert ours.network.norm == norm and ours.network.depth == 6
    with torch.no_grad():
        assert (ours.on(collate([scan])) - expected).abs().max() <= 1e-4
