"""How each family of segmentation models is fed and read: normalised pixels in, class scores per cell of its map out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xkd_ros.core.errors import ModelError
from xkd_ros.teacher.model_folder import ModelFolder

# Runs the network in its precision: inputs by name → output object of transformers.
Run = Callable[..., Any]
# pixels (1, 3, H, W), groups (G, 150) → scores (G, h, w) float32 that cover the same image.
Scorer = Callable[[Tensor, Tensor], Tensor]
_TASK = "the task is semantic"
_TOKENIZER = (("vocab.json", "merges.txt"), ("tokenizer.json",))


@dataclass(frozen=True)
class MaskFamily:
    """What differs between families.

    Attributes:
        class_name: Class in transformers.
        multiple_px: Image sides are multiples of this; None: whatever the patch is.
        short_side_px: Default shorter side; None: the one size that the network was built for.
        make_scorer: Gives the function that scores an image, from the network, its configuration and its folder.
        overrides: Changes to the configuration.
    """

    class_name: str
    multiple_px: int | None
    short_side_px: int | None
    make_scorer: Callable[[Run, Any, ModelFolder], Scorer]
    overrides: tuple[tuple[str, Any], ...] = ()


def sum_queries(class_logits: Tensor, mask_logits: Tensor, groups: Tensor) -> Tensor:
    """Turn queries into scores of our classes, at the resolution of the masks.

    Args:
        class_logits: (B, Q, 151); the last column is "no object".
        mask_logits: (B, Q, h, w).
        groups: (G, 150) zeros and ones.
    Returns:
        (B, G, h, w) float32: sum over queries of p(class) p(mask); classes are summed first, so 150 planes never exist.

    Source: METHODS 8.2; the same sum as post_process_semantic_segmentation, reordered.
    """
    classes = class_logits.float().softmax(-1)[..., :-1] @ groups.T  # (B, Q, G)
    return torch.einsum("bqg,bqhw->bghw", classes, mask_logits.float().sigmoid())


def _mask2former(run: Run, config: Any, folder: ModelFolder) -> Scorer:
    def score(pixels: Tensor, groups: Tensor) -> Tensor:
        output = run(pixel_values=pixels)
        return sum_queries(output.class_queries_logits, output.masks_queries_logits, groups)[0]

    return score


def _oneformer(run: Run, config: Any, folder: ModelFolder) -> Scorer:
    task = task_tokens(folder, config.task_seq_len)

    def score(pixels: Tensor, groups: Tensor) -> Tensor:
        output = run(pixel_values=pixels, task_inputs=task.to(pixels.device))
        return sum_queries(output.class_queries_logits, output.masks_queries_logits, groups)[0]

    return score


def task_tokens(folder: ModelFolder, length: int) -> Tensor:
    """Encode the sentence that asks OneFormer for a semantic map.

    Its own processor also fetches class names from a second hub repository while it is built, which fails offline even with all
    weights at hand (METHODS 8.2); the sentence needs the tokenizer alone.

    Args:
        folder: With the tokenizer files.
        length: Number of tokens that the network expects.
    Returns:
        (1, length) int64; zeros after the end.
    Raises:
        ModelError: the tokenizer files are missing or damaged.
    """
    if not any(all((folder.path / file).is_file() for file in files) for files in _TOKENIZER):
        raise ModelError(
            f"{folder.path} lacks the tokenizer of OneFormer ({' and '.join(_TOKENIZER[0])}, or {_TOKENIZER[1][0]}): download them into it"
        )
    from transformers import CLIPTokenizer

    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder.path, local_files_only=True)
        encoded = tokenizer([_TASK], padding="max_length", max_length=length, truncation=True)
    # Damaged files raise whatever the tokenizer library raises.
    except Exception as error:
        raise ModelError(f"the tokenizer in {folder.path} is damaged ({' '.join(str(error).split())[:120]}): download it again") from error
    return torch.tensor(encoded["input_ids"]) * torch.tensor(encoded["attention_mask"])


def _eomt(run: Run, config: Any, folder: ModelFolder) -> Scorer:
    """Cover the long side of the image by square windows, the only size that EoMT takes."""
    side, patch = int(config.image_size), int(config.patch_size)

    def score(pixels: Tensor, groups: Tensor) -> Tensor:
        height, width = pixels.shape[-2:]
        starts = window_starts(max(height, width), side, patch)
        along = 2 if height > width else 3
        # One window at a time: four at once would not fit beside a large network on a small GPU.
        windows = []
        for start in starts:
            output = run(pixel_values=pixels.narrow(along, start, side))
            windows.append(sum_queries(output.class_queries_logits, output.masks_queries_logits, groups)[0])  # (G, h, h)
        cells = windows[0].shape[-1]
        total = windows[0].new_zeros(len(groups), height * cells // side, width * cells // side)
        count = torch.zeros_like(total[:1])
        for start, window in zip(starts, windows):
            total.narrow(along - 1, start * cells // side, cells).add_(window)
            count.narrow(along - 1, start * cells // side, cells).add_(1)
        return total / count

    return score


def window_starts(length: int, side: int, step: int) -> list[int]:
    """Spread windows evenly over a length, at multiples of `step`.

    Args:
        length: At least `side`, both multiples of `step`.
        side: Of a window.
        step: The patch, so that windows meet on whole cells.
    Returns:
        The start of each window; together they cover everything.
    """
    count = -(-length // side)
    return [round(place * (length - side) / max(1, count - 1) / step) * step for place in range(count)]


def _segformer(run: Run, config: Any, folder: ModelFolder) -> Scorer:
    def score(pixels: Tensor, groups: Tensor) -> Tensor:
        return torch.einsum("gc,chw->ghw", groups, run(pixel_values=pixels).logits[0].float().softmax(0))

    return score


# 640 is what OneFormer resizes its shorter side to; 32 is the coarsest stride of the Swin backbones.
MASK_FAMILIES = {
    "oneformer": MaskFamily("OneFormerForUniversalSegmentation", 32, 640, _oneformer, (("is_training", False),)),
    "mask2former": MaskFamily("Mask2FormerForUniversalSegmentation", 32, 640, _mask2former),
    "eomt": MaskFamily("EomtForUniversalSegmentation", None, None, _eomt),
    "eomt_dinov3": MaskFamily("EomtDinov3ForUniversalSegmentation", None, None, _eomt),
    "segformer": MaskFamily("SegformerForSemanticSegmentation", 32, 512, _segformer),
}
