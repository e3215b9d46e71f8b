"""Training mode and evaluation mode of the embedding are the same network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from xkd_ros.nets.batch import collate


@pytest.mark.parametrize("padded", [False, True])
def test_embedding_in_training_mode_equals_the_folded_one_on_its_own_statistics(make_scan, make_student, padded: bool) -> None:
    embedding = make_student().backbone.embedding
    batch = collate([make_scan(7, 250)])
    features, neighbours = batch.features, batch.neighbours
    real = None
    if padded:
        features = torch.cat([features, torch.full((9, 5), 50.0)])
        neighbours = torch.cat([neighbours, torch.zeros(9, neighbours.shape[1], dtype=torch.long)])
        real = torch.arange(len(features)) < len(batch.features)
    norms = (embedding.norm, embedding.difference_norm, embedding.hidden_norm)
    for norm in norms:
        norm.momentum = 1.0  # the running statistics become those of this batch
    with torch.no_grad():
        expected = embedding.train()(features, neighbours, real)
        counts = len(batch.features) * np.array([1, neighbours.shape[1], neighbours.shape[1]])
        for norm, count in zip(norms, counts):
            norm.running_var.mul_((count - 1) / count)  # kept unbiased, applied biased
        got = embedding.eval()(features, neighbours)
    assert torch.allclose(got[: len(batch.features)], expected[: len(batch.features)], atol=1e-4)
    assert expected.std() > 0.05
