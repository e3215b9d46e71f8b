"""The student while `ignet` trains it: classes, and a head that speaks the image teacher's language anywhere in the scan."""

from __future__ import annotations

from torch import Tensor, nn

from xkd_ros.distill.ignet.one_way import FeatureBank
from xkd_ros.nets.heads import ClassifyingStudent, DistillationHead, Shapes
from xkd_ros.nets.planes import make_planes


class GuidedStudent(nn.Module):
    """A classifying student with a second head.

    Attributes:
        classifier: What is left after training.
        speaker: Tokens → image features.
        bank: What images showed of each class.
    """

    def __init__(self, classifier: ClassifyingStudent, features: int, hidden: int, bank: int) -> None:
        """Build.

        Args:
            classifier: Taken over, not copied.
            features: D of the image teacher.
            hidden: Width between the two layers of the speaker.
            bank: Features kept of each class.
        """
        super().__init__()
        self.classifier = classifier
        self.speaker = DistillationHead(classifier.network.width, features, hidden)
        self.bank = FeatureBank(classifier.network.classes, bank, features)

    def forward(
        self, features: Tensor, cells: Tensor, shapes: Shapes, neighbours: Tensor, scan: Tensor, asked: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Compute (T, K) logits of all points and (A, D) image features of the (A,) points that are asked about."""
        tokens = self.classifier.backbone(features, neighbours, make_planes(cells, shapes), None, scan)
        return self.classifier.head(tokens), self.speaker(tokens.index_select(0, asked))
