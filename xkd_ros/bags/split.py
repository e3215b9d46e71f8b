"""Which frames are for training, for choosing and for the final test, so that no place is on two sides.

Neighbouring scans look alike: a random split would test on what was learnt. So whole recordings, or contiguous blocks with a gap, which
also lies between recordings where one goes on where another ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from xkd_ros.bags.frame_config import SPLITS, FrameConfig

GAP = len(SPLITS)
"""Number of the split of frames that are left out between two others."""
# Fewer frames than this cannot afford a gap.
_FEW_FRAMES = 10
# Recordings are split as wholes only where the rig has enough of them and no one outweighs the others.
_ENOUGH_BAGS, _LARGEST_RATIO = 6, 4
# A gap may take this share of a block at most.
_LARGEST_GAP_SHARE = 0.25


def assign_splits(
    stamps_ns: Sequence[np.ndarray], names: Sequence[str], rigs: Sequence[str], recordings: Sequence[Path], config: FrameConfig
) -> tuple[list[np.ndarray], list[str]]:
    """Choose the split of every frame.

    Args:
        stamps_ns: (F,) int64 of the frames of each source.
        names: Name of each source, for the notes.
        rigs: Rig of each source: the recordings of each are split for themselves, so that all are in every split.
        recordings: Recording of each source. Several lidars of one see the same place at the same moment, which is then on one side.
        config: Kind of split, shares, lengths.
    Returns:
        (F,) int64 per source: index into SPLITS, or GAP; and what a person should know, one line each.
    """
    splits: list[np.ndarray] = [np.zeros(len(stamps), np.int64) for stamps in stamps_ns]
    notes: list[str] = []
    sources: dict[Path, list[int]] = {}
    for index, recording in enumerate(recordings):
        if len(stamps_ns[index]):
            sources.setdefault(recording, []).append(index)
    alike: dict[tuple[str, ...], list[list[int]]] = {}
    for indices in sources.values():
        alike.setdefault(tuple(sorted({rigs[index] for index in indices})), []).append(indices)
    for kind, members in alike.items():
        moments = [_moments([stamps_ns[index] for index in indices]) for indices in members]
        sizes = [len(stamps) for stamps in moments]
        whole = len(members) >= _ENOUGH_BAGS and max(sizes) <= _LARGEST_RATIO * float(np.median(sizes))
        if config.split == "bag" and len(members) < 3:
            notes.append(f"rig {' + '.join(kind)} has {len(members)} recordings: too few to split by recording, so by blocks")
        if (config.split == "bag" and len(members) >= 3) or (config.split == "auto" and whole):
            chosen = [np.full(size, split, np.int64) for size, split in zip(sizes, _by_count(len(members), config.shares))]
        else:
            chosen = []
            for indices, stamps in zip(members, moments):
                blocks, note = _blocks(stamps, config)
                chosen.append(blocks)
                if note:
                    notes.append(f"{names[indices[0]]}: {note}")
        _part_successors(moments, chosen, config.gap_s)
        for indices, stamps, split in zip(members, moments, chosen):
            for index in indices:
                splits[index] = split if len(indices) == 1 else split[np.searchsorted(stamps, stamps_ns[index])]
    return splits, notes


def _part_successors(moments: Sequence[np.ndarray], splits: Sequence[np.ndarray], gap_s: float) -> None:
    """Leave out, in place, the first frames of a recording that follow within the gap on frames of another split in one before it.

    Recordings that overlap in time are of several robots, or of clocks that say nothing: only one that began after another ended goes on
    from there. As in a recording, the gap takes a quarter at most.
    """
    for stamps, split in zip(moments, splits):
        first, last = int(stamps.min()), int(stamps.max())
        gap_ns = min(gap_s * 1e9, _LARGEST_GAP_SHARE * (last - first))
        for earlier, other in zip(moments, splits):
            if not 0 < first - int(earlier.max()) < gap_ns:
                continue
            for kind in range(len(SPLITS)):
                known = earlier[other == kind]
                if len(known):
                    split[(split != kind) & (stamps - known.max() < gap_ns)] = GAP


def _moments(stamps_ns: list[np.ndarray]) -> np.ndarray:
    """Join the stamps of the lidars of a recording; those of one are left in the order that they have, whatever it is."""
    return stamps_ns[0] if len(stamps_ns) == 1 else np.unique(np.concatenate(stamps_ns))


def _by_count(count: int, shares: tuple[float, ...]) -> np.ndarray:
    """Divide `count` things in order: train first, at least one each while there are enough."""
    sizes = [0, 0, 0]
    for split in (1, 2):
        if shares[split] and count - sum(sizes) > 1:
            sizes[split] = min(max(1, round(shares[split] * count)), count - sum(sizes) - 1)
    sizes[0] = count - sum(sizes)
    return np.repeat(np.arange(3), sizes)


def _blocks(stamps_ns: np.ndarray, config: FrameConfig) -> tuple[np.ndarray, str]:
    """Divide one recording: train, val, test, and again when it is long, the first frames after each change left out."""
    count = len(stamps_ns)
    wanted = [split for split, share in enumerate(config.shares) if share]
    if count < _FEW_FRAMES:
        splits = _by_count(count, config.shares)
        return splits, "" if len(wanted) == 1 else f"{_counts(splits)} of {count} frames: too few to keep the splits apart by a gap"
    seconds = (stamps_ns - stamps_ns[0]) * 1e-9
    if (np.diff(seconds) < 0).any():
        seconds = np.arange(count) * float(np.median(np.abs(np.diff(seconds))) or 0.1)
    duration = float(seconds[-1])
    parts = np.array([config.shares[split] for split in wanted])
    cycles = max(1, int(duration * parts.min() / config.block_s))
    edges = np.concatenate([(cycle + np.cumsum(parts)) / cycles for cycle in range(cycles)]) * duration
    block = np.minimum(np.searchsorted(edges, seconds, "right"), len(edges) - 1)
    starts = np.concatenate([[0.0], edges[:-1]])
    gap_s = min(config.gap_s, _LARGEST_GAP_SHARE * duration * float(parts.min()) / cycles)
    splits = np.array(wanted)[block % len(wanted)]
    if len(wanted) > 1:
        splits = np.where((block > 0) & (seconds - starts[block] < gap_s), GAP, splits)
    if not set(wanted) <= set(splits.tolist()):
        splits = _by_count(count, config.shares)
        return splits, f"{_counts(splits)} of {count} frames: too unevenly recorded to keep the splits apart by a gap"
    shortened = len(wanted) > 1 and gap_s < config.gap_s
    return (
        splits,
        f"{duration:.0f} s are short: the gap between the splits is {gap_s:.2g} s instead of {config.gap_s:g} s" if shortened else "",
    )


def _counts(splits: np.ndarray) -> str:
    return ", ".join(f"{np.count_nonzero(splits == split)} {name}" for split, name in enumerate(SPLITS) if (splits == split).any())
