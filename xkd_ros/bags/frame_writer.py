"""Recordings to a frame store: `write_frames`, which can be interrupted at any moment and called again, and `estimate_size`.

Shards grow in a hidden folder beside the target; the manifest is written last, and only then the folder takes its name.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xkd_ros.bags.folder import Recording, open_recording
from xkd_ros.bags.frame_checks import check_room
from xkd_ros.bags.frame_config import SPLITS, FrameConfig
from xkd_ros.bags.frame_job import FrameJob, Stretch, prepare_job
from xkd_ros.bags.frame_manifest import MANIFEST_NAME, FrameEntry, FrameManifest, ShardEntry, SourceEntry, load_manifest, save_manifest
from xkd_ros.bags.frame_plan import PlannedFrame
from xkd_ros.bags.frame_shard import SUMMARY_NAME, save_shard
from xkd_ros.bags.frame_source import FrameSource
from xkd_ros.bags.frame_store import SHARDS_FOLDER, FrameStore, shard_folder
from xkd_ros.core.card import IntensityConfig
from xkd_ros.core.errors import BagError, XkdError
from xkd_ros.core.files import write_atomic
from xkd_ros.core.progress import Report
from xkd_ros.points import intensity

_LOG = logging.getLogger(__name__)
_PLAN_NAME = "plan.json"


@dataclass(frozen=True)
class FrameEstimate:
    """What `write_frames` would write.

    Attributes:
        frames: Frames that are kept.
        pairs: Scans with a picture, before gaps and `every`.
        bytes: About, on disk.
        lines: To show to a person.
    """

    frames: int
    pairs: int
    bytes: int
    lines: list[str]


def estimate_size(
    bags: Sequence[Path],
    config: FrameConfig,
    rig: Path | Sequence[Path] | None = None,
    out: Path | None = None,
    labels: Path | None = None,
) -> FrameEstimate:
    """Tell how many frames recordings give and how large they are, before anything is written.

    Args:
        bags, config, rig, labels: As for `write_frames`.
        out: Where the store will be; adds the free space to the lines.
    Raises:
        BagError, CalibrationError: as for `write_frames`.
    """
    return _estimate(prepare_job(bags, config, rig, labels, hashed=False), out)


def _estimate(job: FrameJob, out: Path | None) -> FrameEstimate:
    counts = Counter(SPLITS[split] for kept in job.kept for _, split in kept)
    pairs = sum(survey.source.plan.pairs for survey in job.surveys)
    scans = sum(survey.source.plan.scans for survey in job.surveys)
    lines = [
        f"{job.frames} frames ({', '.join(f'{name} {counts[name]}' for name in SPLITS if counts[name])}) of {pairs} pairs, {scans} scans, "
        f"{len(job.surveys)} recording{'s' * (len(job.surveys) != 1)}",
        f"about {job.bytes / 1e6:.1f} MB, {job.bytes / max(1, job.frames) / 1e3:.0f} kB a frame",
    ]
    if out is not None:
        lines[-1] += f"; {check_room(out, job.bytes) / 1e9:.1f} GB free"
    return FrameEstimate(job.frames, pairs, job.bytes, [*lines, *job.notes, *_notes(job)])


def _notes(job: FrameJob) -> list[str]:
    """What was noted about recordings, each note once."""
    names: dict[str, list[str]] = {}
    for survey in job.surveys:
        for note in survey.source.notes:
            names.setdefault(note, []).append(survey.source.name)
    return [f"{who[0]}{f' and {len(who) - 1} more' if who[1:] else ''}: {note}" for note, who in names.items()]


def write_frames(
    bags: Sequence[Path],
    out: Path,
    config: FrameConfig,
    rig: Path | Sequence[Path] | None = None,
    labels: Path | None = None,
    progress: Report | None = None,
    announce: Callable[[list[str]], None] | None = None,
) -> FrameStore:
    """Write scans and pictures of recordings as a frame store, or go on where an earlier call was interrupted.

    A store that exists already and was made from the same recordings with the same settings is opened and returned.

    Args:
        bags: Recordings of any rigs.
        out: Folder of the store.
        config: Settings.
        rig: Rig YAML for what recordings lack; of several, each recording takes the one whose lidar topic it has.
        labels: Folder of label files for evaluation; see `truth.find_truth`.
        progress: Called with recordings looked at and recordings in all, then with frames done, frames in all, and `frames_per_s`.
        announce: Gets the lines of the estimate before anything is written.
    Raises:
        BagError: no frame to be had and why, a recording and its copy, labels that fit nothing, no room, or a folder that holds
            something else.
        CalibrationError: no calibrated camera, or one that sees nothing, for example because its extrinsic is inverted.
    """
    out = Path(out)
    job = prepare_job(bags, config, rig, labels, True, progress)
    if out.exists() and any(out.iterdir()):
        return _existing(out, job.plan)
    if announce:
        announce(_estimate(job, out).lines)
    work = out.with_name(f".{out.name}.part")
    _make_ready(work, job.plan)
    stretches = list(job.stretches())
    missing = sum(len(frames) for number, (_, frames) in enumerate(stretches) if not shard_folder(work, number).is_dir())
    check_room(out, round(job.bytes * missing / max(1, job.frames)))
    with _OneOpen() as opened:
        _write_shards(work, stretches, job, opened, progress)
    manifest = _manifest(work, job, len(stretches))
    if not manifest.frames:
        skipped = "; ".join(f"{count} x {reason}" for source in manifest.sources for reason, count in source.skipped.items())
        raise BagError(f"not one frame of {', '.join(str(path) for path in bags)} could be read: {skipped}")
    save_manifest(manifest, work)
    if out.exists():
        out.rmdir()
    (work / _PLAN_NAME).unlink()
    work.rename(out)
    return FrameStore(out)


def _existing(out: Path, plan: str) -> FrameStore:
    if not (out / MANIFEST_NAME).is_file():
        raise BagError(f"{out} exists and is no frame store; choose another folder")
    if load_manifest(out).plan != plan:
        raise BagError(f"{out} was made from other recordings, labels, calibration or settings; remove it or choose another folder")
    return FrameStore(out)


def _make_ready(work: Path, plan: str) -> None:
    """Make the working folder, or keep the one of an interrupted call with the same plan."""
    try:
        if (work / _PLAN_NAME).is_file() and json.loads((work / _PLAN_NAME).read_text(encoding="utf-8")).get("plan") == plan:
            _LOG.info("going on with %s", work)
            return
        if work.exists():
            shutil.rmtree(work)
        (work / SHARDS_FOLDER).mkdir(parents=True)
        write_atomic(work / _PLAN_NAME, json.dumps({"plan": plan}))
    except (OSError, ValueError) as error:
        raise XkdError(f"cannot prepare {work}: {error}; check permissions, or remove it") from error


def _write_shards(work: Path, stretches: Sequence[Stretch], job: FrameJob, opened: _OneOpen, progress: Report | None) -> None:
    """Write the shards that are not there yet."""
    done, read, started = 0, 0, time.monotonic()
    for number, (index, frames) in enumerate(stretches):
        folder = shard_folder(work, number)
        if not (folder / SUMMARY_NAME).is_file():
            source = job.surveys[index].source
            _write_shard(folder, source, opened.get(source.path), index, frames)
            read += len(frames)
        done += len(frames)
        if progress is not None:
            progress(done, job.frames, {"frames_per_s": read / max(1e-9, time.monotonic() - started)})


class _OneOpen(ExitStack):
    """Keeps the last recording open: opening one takes as long as reading some frames."""

    _path: Path | None = None
    _recording: Recording

    def get(self, path: Path) -> Recording:
        if path != self._path:
            self.close()
            recording = open_recording(path)
            self.enter_context(recording)
            self._recording, self._path = recording, path
        return self._recording


def _write_shard(folder: Path, source: FrameSource, recording: Recording, index: int, frames: Sequence[tuple[PlannedFrame, int]]) -> None:
    chunk = source.read(recording, [frame for frame, _ in frames])
    pairs = [(draft, SPLITS[split]) for draft, (_, split) in zip(chunk.drafts, frames) if draft is not None]
    drafts = [draft for draft, _ in pairs]
    entries = [
        FrameEntry(stamp_ns=draft.stamp_ns, source=source.name, split=split, points=len(draft.points_mm), views=len(draft.pictures))
        for draft, split in pairs
    ]
    facts: dict[str, object] = {
        "source": index,
        "entries": [entry.model_dump() for entry in entries],
        "deskewed": sum(draft.deskewed for draft in drafts),
        "truth": sum(draft.truth is not None for draft in drafts),
        "body_points": sum(draft.body_points for draft in drafts),
        "unlevelled": chunk.unlevelled,
        "skipped": dict(chunk.skipped),
    }
    save_shard(folder, drafts, facts)


def _manifest(work: Path, job: FrameJob, shards: int) -> FrameManifest:
    """Join what the shards say about themselves."""
    summaries = [json.loads((shard_folder(work, number) / SUMMARY_NAME).read_text(encoding="utf-8")) for number in range(shards)]
    sources = [
        _source_entry(survey.source, sha, [summary for summary in summaries if summary["source"] == index])
        for index, (survey, sha) in enumerate(zip(job.surveys, job.hashes))
    ]
    rigs = {survey.source.rig.name: survey.source.rig for survey in job.surveys}
    statistics = {}
    for name in rigs:
        values = [s.intensities for s in job.surveys if s.source.rig.name == name and s.intensities is not None]
        statistics[name] = intensity.fit(np.concatenate(values)) if values else IntensityConfig()
    return FrameManifest(
        plan=job.plan,
        config=job.config,
        labels=job.labels,
        sources=tuple(sources),
        rigs=rigs,
        intensity=statistics,
        shards=tuple(ShardEntry.model_validate(summary["shard"]) for summary in summaries),
        frames=tuple(FrameEntry.model_validate(entry) for summary in summaries for entry in summary["entries"]),
        notes=tuple(job.notes),
    )


def _source_entry(source: FrameSource, sha: str, summaries: list[dict]) -> SourceEntry:
    skipped: Counter[str] = Counter(dict(source.plan.statistics.unmatched_scans))
    for summary in summaries:
        skipped.update(summary["skipped"])
    frames = sum(len(summary["entries"]) for summary in summaries)
    notes = list(source.notes)
    if unlevelled := sum(summary["unlevelled"] for summary in summaries):
        notes.append(f"gravity could not be found for {unlevelled} of {frames} scans: they are levelled by the mounting alone")
    truth = source.truth
    truth_frames = sum(summary["truth"] for summary in summaries)
    return SourceEntry(
        name=source.name,
        bag=source.path.name,
        sha256=sha,
        rig=source.rig.name,
        points_topic=source.rig.lidar.topic,
        scans=source.plan.scans,
        pairs=source.plan.pairs,
        frames=frames,
        deskewed=sum(summary["deskewed"] for summary in summaries),
        poses="" if source.track is None else source.track.name,
        truth=() if truth is None or not truth_frames else truth.names,
        truth_hash="" if truth is None or not truth_frames else truth.class_hash,
        truth_frames=truth_frames,
        body_points=sum(summary["body_points"] for summary in summaries),
        skipped=dict(skipped),
        notes=tuple(notes),
    )
