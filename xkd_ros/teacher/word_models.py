"""How each family of detectors is asked in words: tokens and pixels in, a score per box and word and the corners out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from xkd_ros.core.errors import ModelError
from xkd_ros.teacher.image_input import ImageInput
from xkd_ros.teacher.model_folder import ModelFolder

_OWL_TOKENS = 16
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class Asker(Protocol):
    """One family's way to ask."""

    def ask(self, network: Any, rgb: np.ndarray, device: str) -> tuple[Tensor, Tensor]:
        """Ask about an image (H, W, 3) uint8: scores (Q, words) and corners (Q, 4) in pixels, centres of pixels at integers."""
        ...

    def describe(self) -> dict[str, Any]:
        """Say what decides the result, for fingerprints."""
        ...


@dataclass(frozen=True)
class WordFamily:
    """What differs between families.

    Attributes:
        class_name: Class in transformers.
        make_asker: Gives the way to ask, from the folder, the network's configuration, the words and the shorter side or None.
        overrides: Changes to the configuration.
    """

    class_name: str
    make_asker: Callable[[ModelFolder, Any, Sequence[str], int | None], Asker]
    overrides: tuple[tuple[str, Any], ...] = ()


def _corners(boxes: Tensor, width: float, height: float) -> Tensor:
    """Turn (Q, 4) centre and size, as shares of an area, into pixels: left, top, right, bottom."""
    centre, half = boxes[:, :2].float(), boxes[:, 2:].float() / 2
    size = boxes.new_tensor([width, height], dtype=torch.float32)
    # The area begins half a pixel before the centre of its first pixel.
    return torch.cat([(centre - half) * size, (centre + half) * size], 1) - 0.5


def _tokenizer(folder: ModelFolder, class_name: str, files: Sequence[Sequence[str]]) -> Any:
    if not any(all((folder.path / file).is_file() for file in group) for group in files):
        wanted = " or ".join(" and ".join(group) for group in files)
        raise ModelError(f"{folder.path} lacks its tokenizer ({wanted}): download it into the folder")
    import transformers

    try:
        return getattr(transformers, class_name).from_pretrained(folder.path, local_files_only=True)
    # Damaged files raise whatever the tokenizer library raises.
    except Exception as error:
        raise ModelError(f"the tokenizer in {folder.path} is damaged ({' '.join(str(error).split())[:120]}): download it again") from error


class GroundingDinoAsker:
    """All words in one sentence, each ended by a point; a word is as sure as the surest of its tokens.

    Source: arXiv 2303.05499; transformers' post_process_grounded_object_detection, which names phrases instead of words.
    """

    def __init__(self, folder: ModelFolder, config: Any, words: Sequence[str], short_side_px: int | None) -> None:
        tokenizer = _tokenizer(folder, "BertTokenizer", (("vocab.txt",), ("tokenizer.json",)))
        ids, self._spans = [tokenizer.cls_token_id], []
        end = tokenizer.convert_tokens_to_ids(".")
        for word in words:
            tokens = tokenizer(word.lower(), add_special_tokens=False)["input_ids"]
            self._spans.append(slice(len(ids), len(ids) + len(tokens)))
            ids += [*tokens, end]
        ids.append(tokenizer.sep_token_id)
        if len(ids) > config.max_text_len:
            raise ModelError(f"{folder.name} reads {config.max_text_len} tokens and {len(words)} words have {len(ids)}: ask for fewer")
        self._ids = torch.tensor([ids])
        self._input = ImageInput(32, short_side_px or 800, *folder.normalisation)

    def ask(self, network: Any, rgb: np.ndarray, device: str) -> tuple[Tensor, Tensor]:
        """Ask about an image; see `Asker.ask`."""
        ids, pixels = self._ids.to(device), self._input(rgb, device)
        output = network(
            pixel_values=pixels,
            pixel_mask=torch.ones(pixels.shape[0], *pixels.shape[2:], dtype=torch.long, device=device),
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            token_type_ids=torch.zeros_like(ids),
        )
        of_token = output.logits[0].float().sigmoid()  # (Q, max_text_len)
        scores = torch.stack([of_token[:, span].amax(1) for span in self._spans], 1)
        return scores, _corners(output.pred_boxes[0], rgb.shape[1], rgb.shape[0])

    def describe(self) -> dict[str, Any]:
        """Say what decides the result."""
        return {**self._input.describe(), "tokens": self._ids[0].tolist()}


class OwlAsker:
    """Each word in a sentence of its own, the image at the left upper corner of a square.

    Source: arXiv 2306.09683; the image processor of transformers pads and resizes alike.
    """

    def __init__(self, folder: ModelFolder, config: Any, words: Sequence[str], short_side_px: int | None) -> None:
        tokenizer = _tokenizer(folder, "CLIPTokenizer", (("vocab.json", "merges.txt"), ("tokenizer.json",)))
        sentences = [f"a photo of a {word}" for word in words]
        length = min(_OWL_TOKENS, config.text_config.max_position_embeddings)
        encoded = tokenizer(sentences, padding="max_length", max_length=length, truncation=True)
        self._ids, self._mask = torch.tensor(encoded["input_ids"]), torch.tensor(encoded["attention_mask"])
        self._side = int(config.vision_config.image_size)
        says = any((folder.path / name).is_file() for name in ("preprocessor_config.json", "processor_config.json"))
        self._mean, self._std = folder.normalisation if says else (CLIP_MEAN, CLIP_STD)

    def ask(self, network: Any, rgb: np.ndarray, device: str) -> tuple[Tensor, Tensor]:
        """Ask about an image; see `Asker.ask`."""
        output = network(input_ids=self._ids.to(device), attention_mask=self._mask.to(device), pixel_values=self.prepare(rgb, device))
        longer = max(rgb.shape[:2])
        return output.logits[0].float().sigmoid(), _corners(output.pred_boxes[0], longer, longer)

    def prepare(self, rgb: np.ndarray, device: str) -> Tensor:
        """Pad an image (H, W, 3) uint8 to a square, resize and normalise it: (1, 3, side, side) float32."""
        height, width = rgb.shape[:2]
        longer = max(height, width)
        image = torch.from_numpy(np.require(rgb, requirements=["C", "W"])).to(device).permute(2, 0, 1)[None].float() / 255
        image = functional.pad(image, (0, longer - width, 0, longer - height))
        image = functional.interpolate(image, (self._side, self._side), mode="bilinear", align_corners=False, antialias=True)
        mean, std = (torch.tensor(values, device=image.device).view(1, 3, 1, 1) for values in (self._mean, self._std))
        return (image - mean) / std

    def describe(self) -> dict[str, Any]:
        """Say what decides the result."""
        return {"side_px": self._side, "mean": self._mean, "std": self._std, "tokens": self._ids.tolist()}


WORD_FAMILIES = {
    # The kernels that are compiled at run time need a compiler.
    "grounding-dino": WordFamily("GroundingDinoForObjectDetection", GroundingDinoAsker, (("disable_custom_kernels", True),)),
    "owlv2": WordFamily("Owlv2ForObjectDetection", OwlAsker),
}
