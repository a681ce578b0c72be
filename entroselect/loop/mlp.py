"""A denoiser without convolutions: on small images seconds of training where a UNet takes minutes.

A residual network on the flattened image. Noise level and label modulate every block (adaptive
layer norm: Peebles and Xie 2023, arXiv 2212.09748, section 3.2). Its interface and its files are
those of diffusers' UNet2DModel.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.utils import BaseOutput
from torch import nn
from torch.nn.functional import layer_norm, silu

FREQUENCIES = 32  # sines and cosines of the noise level


@dataclass
class MLPOutput(BaseOutput):
    """What the forward pass returns: `sample` has the shape of the images."""

    sample: torch.Tensor


class MLPModel(ModelMixin, ConfigMixin):
    """A residual MLP on images.

    Args:
        sample_size: (height, width) of the images.
        in_channels: their channels.
        width: of the hidden layers.
        blocks: residual blocks of two layers each.
        dropout: share of a block's hidden values set to 0 in training.
        num_class_embeds: labels that it knows; None: it takes no labels.

    Complexity: about width (2 width + 96) blocks products per image, three times that in training.

    Example:
        >>> import torch
        >>> from entroselect.loop.mlp import MLPModel
        >>> net = MLPModel((8, 8), 1, width=32, blocks=2)
        >>> net(torch.zeros(5, 1, 8, 8), torch.arange(5)).sample.shape
        torch.Size([5, 1, 8, 8])
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        sample_size: tuple[int, int],
        in_channels: int,
        width: int = 256,
        blocks: int = 3,
        dropout: float = 0.0,
        num_class_embeds: int | None = None,
    ) -> None:
        super().__init__()
        values = in_channels * sample_size[0] * sample_size[1]
        self.time = nn.Linear(FREQUENCIES, FREQUENCIES)
        self.label = nn.Embedding(num_class_embeds, FREQUENCIES) if num_class_embeds else None
        self.entry = nn.Linear(values, width)
        self.body = nn.ModuleList(_Block(width, dropout) for _ in range(blocks))
        self.exit = nn.Linear(width, values)
        self.skip = nn.Linear(FREQUENCIES, 1)
        for layer in (self.exit, self.skip):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        class_labels: torch.Tensor | None = None,
    ) -> MLPOutput:
        """The guess for every image.

        Args:
            sample: (n, channels, height, width) noisy images.
            timestep: (n,) noise levels, whole or broken numbers.
            class_labels: (n,) int64, where the model takes labels.
        """
        waves = get_timestep_embedding(
            timestep, FREQUENCIES, flip_sin_to_cos=True, downscale_freq_shift=0
        )
        level = self.time(waves.to(sample.dtype))
        if self.label is not None:
            if class_labels is None:
                raise ValueError("class_labels: this model takes labels, none were given")
            level = level + self.label(class_labels)
        level = silu(level)
        hidden = self.entry(sample.flatten(1))
        for block in self.body:
            hidden = block(hidden, level)
        guess = self.exit(layer_norm(hidden, hidden.shape[1:])).reshape(sample.shape)
        # What noise predicts of itself: all of it at a high level. The blocks learn the rest.
        skip = self.skip(level).reshape(-1, 1, 1, 1)
        return MLPOutput(sample=guess + skip * sample)


class _Block(nn.Module):
    """x + gate * MLP(scale * norm(x) + shift); gate, scale and shift come from the noise level."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.modulation = nn.Linear(FREQUENCIES, 3 * width)
        nn.init.zeros_(self.modulation.weight)  # gates of 0: every block begins as the identity
        nn.init.zeros_(self.modulation.bias)

    def forward(self, hidden: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        shift, scale, gate = self.modulation(level).chunk(3, dim=1)
        inner = layer_norm(hidden, hidden.shape[1:]) * (1 + scale) + shift
        return hidden + gate * self.second(self.dropout(silu(self.first(inner))))
