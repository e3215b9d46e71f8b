"""Kernels compile where nothing can be written, too."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import numpy as np
import pytest

numba = pytest.importorskip("numba")

from xkd_ros.kernels import compiler  # noqa: E402


def test_without_a_place_for_machine_code_kernels_still_run(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    real = numba.njit

    def njit(**options: object) -> object:
        if options.get("cache"):
            raise RuntimeError("cannot cache function 'f': no locator available")
        return real(**options)

    monkeypatch.setattr(compiler, "numba", SimpleNamespace(njit=njit))
    compiler._warn_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        double, triple = compiler.compiled(lambda x: 2 * x), compiler.compiled(lambda x: 3 * x)
    assert double(np.float32(2)) == 4 and triple(np.float32(2)) == 6
    assert len([record for record in caplog.records if "NUMBA_CACHE_DIR" in record.message]) == 1


def test_blocks_stay_below_the_size_at_which_products_start_threads() -> None:
    for channels in (4, 48, 64, 128, 256):
        rows = compiler.rows_per_block(channels)
        assert 4 <= rows <= 128 and rows * channels**2 <= 2**18
