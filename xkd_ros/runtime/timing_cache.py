"""What TensorRT measured while it built engines on this GPU: the next engine takes these times instead of measuring again."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from xkd_ros.core.errors import XkdError
from xkd_ros.core.files import write_atomic
from xkd_ros.runtime.engine_store import engine_key

_LOG = logging.getLogger(__name__)
_HASH_BYTES = hashlib.sha256().digest_size


class TimingCacheFile:
    """One file, `<key>.timing`: the SHA-256 of the content, and the content.

    TensorRT must never see a damaged cache: builders were seen to abort the whole process on a flipped byte, which no `except` catches.
    """

    def __init__(self, folder: Path, **facts: object) -> None:
        """Name the file by what the times depend on: GPU, version of TensorRT, memory the builder may use."""
        self._path = folder / f"{engine_key(**facts)}.timing"

    def read(self) -> bytes:
        """Return the content; empty when absent or damaged, which to TensorRT is a new cache."""
        try:
            data = self._path.read_bytes()
        except OSError:
            return b""
        digest, content = data[:_HASH_BYTES], data[_HASH_BYTES:]
        return content if hashlib.sha256(content).digest() == digest else b""

    def write(self, content: bytes) -> None:
        """Replace the content; without a place for it the next engine only takes longer."""
        try:
            write_atomic(self._path, hashlib.sha256(content).digest() + content)
        except XkdError as error:
            _LOG.info("times measured by TensorRT are not kept: %s", error)
