"""`xkd bench page`: docs/performance.md from the figures that benchmarks wrote, and the log of what was tried."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from xkd_ros.core.errors import ConfigError
from xkd_ros.core.files import write_atomic
from xkd_ros.pipeline.bench.gpu import gpu_tables
from xkd_ros.pipeline.progress import console
from xkd_ros.pipeline.studies.table import StudyTable

LOG_NAME = "changes.yaml"


def write_page(figures: Path, out: Path) -> None:
    """Write the page.

    Args:
        figures: Folder with the figures of each benchmark, such as model.json (what is missing is left out), and changes.yaml.
        out: Markdown file.
    Raises:
        ConfigError: no figures, or a file that is none.
    """
    parts = [table for name, make in _TABLES.items() for table in make(_read(figures / f"{name}.json"))]
    if not parts:
        raise ConfigError(f"{figures} holds no figures; write some: xkd bench model --json {figures}/model.json")
    lines = [
        "# Performance",
        "",
        f"Written by `xkd bench page` from `{figures}/*.json`. Figures are medians of one run on one machine: compare those of one table,",
        "not those of two days.",
        "",
    ]
    if not (figures / "gpu.json").is_file():
        lines += [f"Nothing here was measured on a GPU: `xkd bench gpu --json {figures}/gpu.json` does that.", ""]
    lines += [table.markdown() for table in parts]
    log = figures / LOG_NAME
    if log.is_file():
        rows = [[str(row[key]) for key in ("change", "expected", "measured", "kept")] for row in yaml.safe_load(log.read_text())]
        lines.append(StudyTable("What was tried", ("change", "expected", "measured", "kept"), rows).markdown().replace("---:", "---"))
    write_atomic(out, "\n".join(lines).rstrip() + "\n")
    console.print(f"wrote {out}", highlight=False)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} holds no figures ({' '.join(str(error).split())[:120]}); run its benchmark again") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no figures; run its benchmark again")
    return content


def _machine(facts: dict[str, Any]) -> str:
    machine = facts["machine"]
    return (
        f"{facts['measured']}: {machine['threads']} threads of {machine['cores']} cores, {machine['instructions']}, matrix products "
        f"{machine['matmul_fp32_gflops']} GFLOP/s, copies {machine['copy_gb_per_s']} GB/s."
    )


def _model(facts: dict[str, Any]) -> list[StudyTable]:
    if not facts:
        return []
    ways = list(dict.fromkeys(way for row in facts["rows"] for way in row["ms"]))
    rows = [
        [f"{row['voxels']}, {row['norm']} norm", *(f"{row['ms'][way]:.1f}" if way in row["ms"] else "-" for way in ways)]
        for row in facts["rows"]
    ]
    notes = (_machine(facts), "`public` is the published implementation with our weights; logits are compared first.")
    return [StudyTable(f"The network alone, {facts['network']}: ms per scan (`xkd bench model`)", ("voxels", *ways), rows, notes)]


def _training(facts: dict[str, Any]) -> list[StudyTable]:
    if not facts:
        return []
    ways = list(dict.fromkeys(way for row in facts["steps"] for way in row["ms"]))
    steps = [
        [str(row["voxels"]), *(f"{row['ms'][way]:.0f}" for way in ways), f"{row['ratio']['fp32']:.1f}x" if row["ratio"] else "-"]
        for row in facts["steps"]
    ]
    data = [[row["rig"], row["augmentation"], str(row["voxels"]), f"{row['scans_per_s']:.1f}"] for row in facts["data"]]
    title = f"Forward and backward of one scan, {facts['network']}: ms (`xkd bench training`)"
    return [
        StudyTable(title, ("voxels", *ways, "ours over public"), steps, (_machine(facts),)),
        StudyTable("From the frame store to a batch, one core", ("rig", "augmentation", "voxels", "scans/s"), data),
    ]


def _preprocess(facts: dict[str, Any]) -> list[StudyTable]:
    rows = [
        [
            str(row["points"]),
            str(row["voxels"]),
            *(f"{row['ms'][name]:.1f}" for name in ("plain", "ours", "levelling")),
            f"{row['ratio']:.1f}x",
        ]
        for row in facts.get("rows", [])
    ]
    columns = ("points", "voxels", "plain", "ours", "levelling", "plain over ours")
    return [StudyTable("Preprocessing: ms per scan (`xkd bench preprocess`)", columns, rows, (facts["measured"],))] if rows else []


def _node(facts: dict[str, Any]) -> list[StudyTable]:
    rows = []
    for name, run in facts.get("runs", {}).items():
        latency, stages = run["latency_ms"], run["stage_ms"]
        parts = ", ".join(f"{stage} {value:.0f}" for stage, value in stages.items() if value >= 1)
        counts = f"{run['scans_out']} of {run['scans_in']}"
        rows.append([name, run["backend"], f"{run['hz']:.2f}", counts, f"{latency['p50']:.0f} / {latency['p95']:.0f}", parts])
    columns = ("input", "backend", "Hz", "labelled", "latency p50 / p95 ms", "stages, ms")
    title = "The whole node: DDS in, DDS out, player and subscriber on the same cores (`xkd bench node`)"
    notes = (f"{facts.get('measured', '')}: {facts.get('model')}, {facts.get('bag')}, {facts.get('cores')} cores.",)
    return [StudyTable(title, columns, rows, notes)] if rows else []


def _growth(facts: dict[str, Any]) -> list[StudyTable]:
    if not facts:
        return []
    names = ("beams", "columns", "points", "voxels", "ms")
    rows = [[str(row[name]) for name in names] for row in facts["rows"]]
    notes = (
        f"Log-log slope of time against points: {facts['slope']:.2f}; 1 is linear.",
        f"{facts['measured']}: {facts['model']} on {facts['backend']}.",
    )
    return [StudyTable("A whole scan, from 16 beams to 128: ms (`xkd bench growth`)", names, rows, notes)]


def _gpu(facts: dict[str, Any]) -> list[StudyTable]:
    return gpu_tables(facts) if facts else []


_TABLES = {
    "gpu": _gpu,
    "node": _node,
    "model": _model,
    "model-256": _model,
    "preprocess": _preprocess,
    "growth": _growth,
    "training": _training,
}
