"""From the fine-tuned student of a run to the model folder that the segmenter loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xkd_ros.core.card import load_card
from xkd_ros.core.progress import Report
from xkd_ros.export.onnx_export import export_onnx
from xkd_ros.nets.checkpoint import load_student, save_student
from xkd_ros.nets.fused_checkpoint import CARD_NAME as FUSED_NAME
from xkd_ros.nets.fused_checkpoint import load_fused, save_fused
from xkd_ros.pipeline.model_page import write_model_page


def write_learned_model(work: Path, out: Path, evaluation: dict[str, Any], command: str, progress: Report) -> tuple[str, dict[str, Any]]:
    """Write weights, card, ONNX graphs and page of what a run learnt, and the fused head where its method trains one.

    Args:
        work: Run folder whose fine-tuning is done.
        out: Model folder; its last part is the model's name.
        evaluation: Facts of the stage `evaluation`: temperature and scores.
        command: What makes the model again, for its page.
        progress: (done, total, facts).
    Returns:
        Hash of the card, and facts.
    """
    student, card = load_student(work / "finetune")
    scores = {name: value for name, value in evaluation.items() if name not in ("temperature", "entropy")}
    metrics = {"classes": list(card.labels.names), "evaluation": scores, "entropy": evaluation.get("entropy", {})}
    card = card.model_copy(update={"name": out.name, "temperature": evaluation.get("temperature", 1.0), "metrics": metrics})
    save_student(student, card, out)
    if (work / "finetune" / FUSED_NAME).is_file():
        fused, fused_card = load_fused(work / "finetune", student)
        save_fused(fused, student, fused_card.teacher, out)
    progress(1, 3, {})
    export_onnx(out)
    progress(2, 3, {})
    write_model_page(load_card(out), out, command)
    progress(3, 3, {})
    return load_card(out).hash, {"model": str(out)}
