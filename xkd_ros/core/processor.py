"""What the CPU is and can do, read from /proc/cpuinfo."""

from __future__ import annotations

from pathlib import Path

_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # x86-64 and aarch64


def has_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 in hardware."""
    return bool(_BF16_FLAGS & set(cpu_lines().get("flags", "").split()))


def cpu_lines() -> dict[str, str]:
    """First processor's rows of /proc/cpuinfo; "flags" under that name on aarch64 too, where it is called Features."""
    try:
        rows = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return {}
    pairs = (row.partition(":") for row in rows)
    return {{"Features": "flags"}.get(key.strip(), key.strip()): value.strip() for key, _, value in pairs}
