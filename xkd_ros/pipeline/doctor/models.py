"""The models on this machine: are they whole, and which backends would run them, and why the others would not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from xkd_ros.core.card import CARD_NAME, ModelCard, load_card, model_file
from xkd_ros.core.errors import XkdError
from xkd_ros.core.share import share_folders
from xkd_ros.pipeline.doctor.finding import Finding
from xkd_ros.runtime.engine_store import EngineStore, engine_folder
from xkd_ros.runtime.onnx_inputs import TRT_FILE
from xkd_ros.runtime.probe import probe_inputs
from xkd_ros.runtime.selection import BACKENDS, impossible, make_backend, remembered_choice


def list_models() -> list[Path]:
    """List the model folders that come with the package; of several with one name, the one that is used."""
    found: dict[str, Path] = {}
    for folder in share_folders():
        for card in sorted((folder / "models").glob(f"*/{CARD_NAME}")):
            found.setdefault(card.parent.name, card.parent)
    return list(found.values())


def examine_models(folders: list[Path], run: bool) -> Iterator[Finding]:
    """Look at each model.

    Args:
        folders: Model folders.
        run: Load each with each backend and label a scan, instead of only telling what could be tried.
    """
    if not folders:
        yield Finding("models", "models", "wrong", "none comes with this installation", "reinstall the package, or give one with -m")
    for folder in folders:
        try:
            card = load_card(folder)
            for name in card.files:
                model_file(folder, card, name)
        except XkdError as error:
            yield Finding("models", folder.name, "wrong", str(error))
            continue
        size = f"{card.network.depth} layers x {card.network.width}, {len(card.labels)} classes"
        yield Finding("models", card.name, "ok", f"{size}, card {card.hash}, {len(card.files)} files whole, in {folder}")
        yield _backends(folder, card, run)
        yield from _engines(card)


def _backends(folder: Path, card: ModelCard, run: bool) -> Finding:
    works: list[str] = []
    not_so: list[str] = []
    for name in BACKENDS:
        reason = impossible(name, card)
        if not reason and run:
            reason, took = _try(name, folder, card)
            works += [] if reason else [f"{name} {took}"]
        elif not reason:
            works.append(name)
        if reason:
            not_so.append(f"{name}: {reason}")
    chosen = remembered_choice(card, None)
    parts = [f"backends {', '.join(works) or 'none'}", *([f"auto took {chosen} last time"] if chosen else [])]
    found = "; ".join([*parts, *(f"not {sentence}" for sentence in not_so)])
    if works:
        return Finding("models", f"{card.name} runs on", "ok", found)
    return Finding("models", f"{card.name} runs on", "wrong", found, "pip install 'numba>=0.58' safetensors")


def _engines(card: ModelCard) -> Iterator[Finding]:
    """List the TensorRT engines that are kept for a model; without one the first start builds it, for minutes."""
    engines = EngineStore(engine_folder()).of_graph(card.files.get(TRT_FILE, ""))
    if engines:
        yield Finding("models", f"{card.name} engines", "ok", "; ".join(map(str, engines)))
    elif not impossible("tensorrt", card):
        found = f"none in {engine_folder()}: the first start builds one, for minutes"
        yield Finding("models", f"{card.name} engines", "note", found, f"xkd export {card.name} --tensorrt")


def _try(name: str, folder: Path, card: ModelCard) -> tuple[str, str]:
    """Load a backend and let it work; returns why not, or how long a scan took."""
    scan = probe_inputs(card)[1]
    try:
        backend = make_backend(name, folder, card, None)
        backend.infer(scan)
        begun = time.perf_counter()
        backend.infer(scan)
    except Exception as error:  # whatever a backend of somebody else raises is the finding
        return " ".join(str(error).split()) or type(error).__name__, ""
    return "", f"({1e3 * (time.perf_counter() - begun):.0f} ms for {len(scan)} voxels)"
