"""What the CPU says of itself, on both architectures."""

from __future__ import annotations

from pathlib import Path

import pytest

from xkd_ros.core import processor


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model name\t: Xeon\nflags\t\t: fpu avx512f amx_bf16\n\nprocessor\t: 1\nflags\t\t: fpu\n", True),
        ("model name\t: Xeon\nflags\t\t: fpu avx512f avx512_vnni\n", False),
        ("processor\t: 0\nFeatures\t: fp asimd bf16 i8mm\n", True),
        ("", False),
    ],
)
def test_bfloat16_is_read_off_the_flags(text: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda self: text)
    assert processor.has_bf16() is expected


def test_a_system_without_the_file_has_no_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(self: Path) -> str:
        raise FileNotFoundError(str(self))

    monkeypatch.setattr(Path, "read_text", absent)
    assert processor.cpu_lines() == {} and not processor.has_bf16()
