"""Images that live on the device as uint8."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from search.data import Split


@dataclass(frozen=True)
class Resident:
    """A split on the device.

    Args:
        images: `(n, height, width, channels)` uint8. Batches are views with channels last in memory.
        labels: `(n,)` class numbers.
        mean, std: per channel, on the scale 0..1.
    """

    images: UInt8[Tensor, "n h w c"]
    labels: Int64[Tensor, " n"]
    mean: Float[Tensor, " c"]
    std: Float[Tensor, " c"]

    @classmethod
    def load(cls, split: Split, mean: Sequence[float], std: Sequence[float], device: torch.device) -> "Resident":
        """Moves a split to `device`; on the CPU the images stay the memory-mapped pages that all workers share."""
        scale = (torch.tensor(values, dtype=torch.float32, device=device) for values in (mean, std))
        return cls(torch.from_numpy(split.images).to(device), torch.from_numpy(split.labels).to(device), *scale)

    def __len__(self) -> int:
        return len(self.labels)

    def normalise(self, batch: UInt8[Tensor, "b h w c"]) -> Float[Tensor, "b c h w"]:
        """uint8 pixels to zero mean and unit variance per channel of the training split."""
        scaled = batch.float().div_(255).sub_(self.mean).div_(self.std)
        return scaled.permute(0, 3, 1, 2)


def evaluation_batches(split: Resident, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Every image once, in order, as it is."""
    for start in range(0, len(split), batch_size):
        part = slice(start, start + batch_size)
        yield split.normalise(split.images[part]), split.labels[part]
