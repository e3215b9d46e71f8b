"""A pretrained image model on disk: found locally or on the hub, checked, hashed, loaded; next: `feature_teacher`, `mask_teacher`."""

from __future__ import annotations

import hashlib
import json
import re
from functools import cached_property
from pathlib import Path
from typing import Any

from xkd_ros.core.errors import MissingPackageError, ModelError, require
from xkd_ros.core.files import sha256
from xkd_ros.core.share import share_folders

DEFAULT_TEACHER = "sim2d-indoor12"
"""Comes with the package."""
_INSTALL = "pip install 'transformers>=5'"
_LARGEST_JSON_BYTES = 64_000_000
# Single file or, with .index.json, several; the first that is there is what transformers takes.
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
# Only for training, or rebuilt from the configuration: checkpoints of different ages have them or not.
_NOT_NEEDED = ("criterion.", "mask_token", "position_ids", "relative_position_index", "text_mapper.", "norm_mean", "norm_std")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def find_teacher(spec: str) -> str:
    """Find a teacher that comes with the package by its bare name; anything else is returned as it is."""
    for share in share_folders():
        if Path(spec).name == spec and (share / "models" / "teachers" / spec).is_dir():
            return str(share / "models" / "teachers" / spec)
    return spec


def find_folder(spec: str, own_mark: str) -> Path:
    """Find the folder of a teacher; a hub id is downloaded, or taken from the hub's cache.

    Args:
        spec: Folder, or "organisation/model".
        own_mark: File that marks a teacher of ours.
    Raises:
        ModelError: there is no such folder and the hub does not give it; the message says how to get it.
    """
    path = Path(spec).expanduser()
    if path.is_dir():
        if not (path / own_mark).is_file() and not (path / "config.json").is_file():
            raise ModelError(
                f"{path} is no teacher: it has neither config.json (a transformers model) nor {own_mark} (from `xkd teach2d`); "
                "give the folder that holds one of them"
            )
        return path
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", spec) or spec.startswith("."):
        raise ModelError(f"there is no teacher folder {path}; give a folder, or a hub id such as facebook/dinov2-small")
    return _from_hub(spec)


def _from_hub(name: str) -> Path:
    hub = require("huggingface_hub", f"loading '{name}' from the hub", _INSTALL)
    errors = require("huggingface_hub.errors", f"loading '{name}' from the hub", _INSTALL)
    try:
        path = Path(hub.snapshot_download(name, allow_patterns=["*.json", "*.txt", "*.safetensors"]))
        if not any((path / file).exists() for file in _WEIGHTS[:2]):
            path = Path(hub.snapshot_download(name, allow_patterns=["*.json", "*.txt", "pytorch_model*.bin"]))
    except errors.GatedRepoError as error:
        raise ModelError(f"'{name}' is gated: accept its licence on its hub page, log in with `hf auth login`, then try again") from error
    # httpx and the hub raise many kinds; what they mean for the user is the same.
    except Exception as error:
        raise ModelError(
            f"'{name}' is no folder here, is not in the hub's cache, and the hub does not give it ({type(error).__name__}): where there is "
            f"network, `hf download {name} --local-dir DIR`, then give DIR as the teacher"
        ) from error
    return path


class ModelFolder:
    """One model in the format of `save_pretrained`.

    Attributes:
        path: The folder.
        name: What the user called it.
        config: Content of config.json.
    """

    def __init__(self, path: Path, name: str = "") -> None:
        """Check that everything that loading needs is there.

        Raises:
            ModelError: names what is missing or damaged.
        """
        self.path, self.name = path, name or str(path)
        self.config = self._json("config.json")
        self.weights = self._weights()

    @property
    def model_type(self) -> str:
        """Family, as transformers calls it."""
        return str(self.config.get("model_type", ""))

    @cached_property
    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of red, green, blue in 0..1 that the model was trained with; ImageNet's if it does not say.

        Raises:
            ModelError: it says something impossible.
        """
        for file in ("preprocessor_config.json", "processor_config.json"):
            if not (self.path / file).is_file():
                continue
            content = self._json(file)
            content = content.get("image_processor", content)
            if isinstance(content, dict) and "image_mean" in content and "image_std" in content:
                try:
                    mean, std = (tuple(float(value) for value in content[key]) for key in ("image_mean", "image_std"))
                except (TypeError, ValueError):
                    mean, std = (), ()
                if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
                    raise ModelError(
                        f"{self.path / file} has image_mean {content['image_mean']} and image_std {content['image_std']}: give three"
                    )
                return mean, std
        return IMAGENET_MEAN, IMAGENET_STD

    def fingerprint(self, preprocessing: dict[str, Any]) -> str:
        """Hash weights, configuration, the preprocessing given and the version of transformers, which all decide what comes out."""
        transformers = require("transformers", f"the teacher {self.name}", _INSTALL)
        parts = {
            "weights": [sha256(path) for path in self.weights],
            "config": sha256(self.path / "config.json"),
            "preprocessing": preprocessing,
            "transformers": transformers.__version__,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def load(self, class_name: str, device: str, **overrides: Any) -> Any:
        """Build the network with its weights, frozen, in float32.

        Args:
            class_name: Class in transformers.
            device: Where to put it.
            overrides: Changes to the configuration.
        Returns:
            The torch module, in evaluation mode.
        Raises:
            ModelError: weights are damaged, of other sizes, or incomplete.
            MissingPackageError: transformers is absent or too old for this family.
        """
        transformers = require("transformers", f"the teacher {self.name}", _INSTALL)
        try:
            network_class = getattr(transformers, class_name)
        except (AttributeError, ImportError) as error:
            raise MissingPackageError(
                f"the teacher {self.name} needs {class_name}, which transformers {transformers.__version__} lacks: {_INSTALL}"
            ) from error
        from transformers.utils import logging as transformers_logging

        bars = transformers_logging.is_progress_bar_enabled()
        transformers_logging.disable_progress_bar()
        try:
            network, report = network_class.from_pretrained(
                self.path,
                dtype="float32",
                local_files_only=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # reported below, in one line
                output_loading_info=True,
                **overrides,
            )
        # Damaged files raise whatever their reader raises.
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise ModelError(f"cannot load {class_name} from {self.path} ({reason}): download the model again") from error
        finally:
            if bars:
                transformers_logging.enable_progress_bar()
        self._check(report)
        return network.eval().requires_grad_(False).to(device)

    def _check(self, report: dict[str, Any]) -> None:
        missing = sorted(key for key in report["missing_keys"] if not any(part in key for part in _NOT_NEEDED))
        missing += sorted(str(entry[0] if isinstance(entry, tuple) else entry) for entry in report.get("mismatched_keys", ()))
        if missing:
            raise ModelError(
                f"the weights in {self.path} do not fit its config.json: {len(missing)} tensors are absent or of another size "
                f"({', '.join(missing[:3])}{' ...' if len(missing) > 3 else ''}); download the model again"
            )

    def _json(self, file: str) -> dict[str, Any]:
        path = self.path / file
        try:
            if path.stat().st_size > _LARGEST_JSON_BYTES:
                raise ModelError(f"{path} has {path.stat().st_size} bytes: too large for a configuration")
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ModelError(f"cannot read {path} ({' '.join(str(error).split())[:120]}): download the model again") from error
        if not isinstance(content, dict):
            raise ModelError(f"{path} holds {type(content).__name__}, expected an object: download the model again")
        return content

    def _weights(self) -> list[Path]:
        found = next((name for name in _WEIGHTS if (self.path / name).is_file()), None)
        if found is None:
            raise ModelError(f"{self.path} has no weights ({' or '.join(_WEIGHTS[::2])}): download them into it, or give another folder")
        if not found.endswith(".index.json"):
            return [self.path / found]
        parts = self._json(found).get("weight_map")
        if not isinstance(parts, dict) or not all(isinstance(part, str) for part in parts.values()):
            raise ModelError(f"{self.path / found} has no weight_map: download the model again")
        names = sorted(set(parts.values()))
        # Plain names only; files of the hub's cache are links to its blobs, so following them would look like leaving the folder.
        strange = [name for name in names if name != Path(name).name]
        if strange:
            raise ModelError(f"{self.path / found} names '{strange[0]}', which would leave its folder; download the model again")
        absent = [name for name in names if not (self.path / name).is_file()]
        if absent:
            raise ModelError(
                f"{self.path} lacks {len(absent)} of {len(names)} weight files ({', '.join(absent[:3])}): download them into it"
            )
        return [self.path / name for name in names]
