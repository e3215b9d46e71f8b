"""docs/operations.md quotes what the nodes say: every quotation must still be said."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "operations.md").read_text()


def test_every_quoted_sentence_is_said_by_the_source() -> None:
    table = PAGE.partition("| you see |")[2].partition("\n\n")[0]
    quoted = [words for row in table.splitlines() for words in re.findall(r"`([^`]+)`", row.split("|")[1] if "|" in row else "")]
    source = " ".join(path.read_text() for path in (ROOT / "xkd_ros").rglob("*.py"))
    assert len(quoted) > 15
    assert [words for words in quoted if words not in source] == []


def test_every_named_parameter_and_file_exists() -> None:
    parameters = "".join((ROOT / "config" / f"{node}.yaml").read_text() for node in ("segmenter", "synchronizer", "replayer"))
    for name in ("stale_s", "lowest_share", "target_hz", "input_reliability", "output_durability", "niceness", "max_dt_s", "clock_hz"):
        assert f"`{name}`" in PAGE and f"\n    {name}:" in parameters
    for name in re.findall(r"`(config/[a-z_./]+)`", PAGE):
        assert (ROOT / name).is_file(), name
