"""A small network that says both whether and where: EfficientNet-Lite0 with two heads.

The trunk is EfficientNet-Lite0 (Google, 2020: EfficientNet-B0 without squeeze-and-excitation, with
ReLU6), so that its ImageNet weights can start it. The global head gives a logit for each label, the
dense head a map of logits for each kind of finding, at a quarter of the input's rows and columns,
and before them one of all kinds together.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import nn

# Repeats, kernel, stride, expansion, output channels of each stage.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM, _FEATURES = 32, 1280
# Stages whose maps the dense head joins, and their channels: strides 4, 8, 16 and 32.
_JOINED = {1: 24, 2: 40, 4: 112, 6: 320}
_WIDTH = 48
# Places of a map that count for its label: more than a speck, less than all.
_TOP = 12


class SliceNetwork(nn.Module):
    """EfficientNet-Lite0 with a global and a dense head.

    Parameters
    ----------
    in_channels : int
    num_classes : int
        Labels of the global head.
    num_maps : int
        Kinds of finding of the dense head.
    dropout : float
        Of the global features, in training.
    """

    def __init__(
        self, in_channels: int = 3, num_classes: int = 6, num_maps: int = 5, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(_Same(in_channels, _STEM, 3, 2, bias=False), _norm(_STEM))
        self.stages = nn.ModuleList()
        channels = _STEM
        for repeats, kernel, stride, expansion, out in _STAGES:
            blocks = [
                _Block(channels if i == 0 else out, out, kernel, stride if i == 0 else 1, expansion)
                for i in range(repeats)
            ]
            self.stages.append(nn.Sequential(*blocks))
            channels = out
        self.last = nn.Sequential(nn.Conv2d(channels, _FEATURES, 1, bias=False), _norm(_FEATURES))
        self.dropout = dropout
        self.lateral = nn.ModuleDict(
            {str(stage): nn.Conv2d(width, _WIDTH, 1) for stage, width in _JOINED.items()}
        )
        mapped = nn.Conv2d(_WIDTH, num_maps, 1)
        assert mapped.bias is not None
        # Most places hold no finding: a map that starts low does not begin with a large loss.
        nn.init.constant_(mapped.bias, -4.0)
        self.dense = nn.Sequential(
            nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1, bias=False),
            nn.BatchNorm2d(_WIDTH),
            nn.ReLU(),
            mapped,
        )
        self.head = nn.Linear(_FEATURES + 2 * num_maps, num_classes)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits (n, labels) and maps of logits (n, 1 + kinds, h, w) of `images`.

        The first map is the highest of the others at each place.

        Parameters
        ----------
        images : Tensor of float32, (n, channels, rows, columns)
        """
        features = F.relu6(self.stem(images))
        joined: dict[int, torch.Tensor] = {}
        for index, stage in enumerate(self.stages):
            features = stage(features)
            if index in _JOINED:
                joined[index] = features
        maps = self._maps(joined)
        pooled = F.relu6(self.last(features)).mean((2, 3))
        pooled = F.dropout(pooled, self.dropout, self.training)
        flat = maps.flatten(2)
        highest = flat.topk(min(_TOP, flat.shape[-1]), dim=2).values.mean(2)
        amount = _log_sum_exp(flat) - 5.0
        # The maps learn from masks alone: a label must not smear them over the picture.
        told = torch.cat([pooled, 0.2 * highest.detach(), 0.2 * amount.detach()], dim=1)
        return self.head(told), torch.cat([maps.amax(1, keepdim=True), maps], dim=1)

    def _maps(self, joined: dict[int, torch.Tensor]) -> torch.Tensor:
        coarse: torch.Tensor | None = None
        for stage in sorted(joined, reverse=True):
            fine: torch.Tensor = self.lateral[str(stage)](joined[stage])
            if coarse is not None:
                size = [int(length) for length in fine.shape[-2:]]
                fine = fine + F.interpolate(coarse, size=size, mode="bilinear", align_corners=False)
            coarse = fine
        assert coarse is not None
        maps: torch.Tensor = self.dense(coarse)
        return maps


class _Same(nn.Conv2d):
    """A convolution padded as the ImageNet weights were trained: odd lines after, not before."""

    def __init__(
        self, i: int, o: int, kernel: int, stride: int, groups: int = 1, bias: bool = True
    ) -> None:
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(i, o, kernel, stride, padding, groups=groups, bias=bias)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the convolution; its output has ceil(input / stride) rows and columns."""
        if self.stride[0] > 1:
            down, across = (self._missing(int(length)) for length in input.shape[-2:])
            input = F.pad(input, (across // 2, across - across // 2, down // 2, down - down // 2))
        return super().forward(input)

    def _missing(self, length: int) -> int:
        kernel, stride = self.kernel_size[0], self.stride[0]
        return max(0, (-(-length // stride) - 1) * stride + kernel - length)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.02)


class _Block(nn.Module):
    """An inverted residual block (MobileNetV2, EfficientNet) with ReLU6."""

    def __init__(self, i: int, o: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = i * expansion
        self.expand = (
            nn.Sequential(nn.Conv2d(i, wide, 1, bias=False), _norm(wide)) if expansion > 1 else None
        )
        self.depthwise = nn.Sequential(
            _Same(wide, wide, kernel, stride, groups=wide, bias=False), _norm(wide)
        )
        self.project = nn.Sequential(nn.Conv2d(wide, o, 1, bias=False), _norm(o))
        self.adds = stride == 1 and i == o

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        wide = images if self.expand is None else F.relu6(self.expand(images))
        wide = F.relu6(self.depthwise(wide))
        narrow: torch.Tensor = self.project(wide)
        return images + narrow if self.adds else narrow


def _log_sum_exp(flat: torch.Tensor) -> torch.Tensor:
    """Do as ``torch.logsumexp`` over the last axis, in steps that every engine exports and reads.

    OpenVINO 2026.4 loses the axis of ONNX's ReduceLogSumExp.
    """
    highest = flat.amax(-1, keepdim=True)
    return (flat - highest).exp().sum(-1).log() + highest.squeeze(-1)
