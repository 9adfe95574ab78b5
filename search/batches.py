"""Images that live on the device as uint8, or, where it cannot hold them, come to it batch by batch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from search.data import Split
from search.streamed import fits


@dataclass(frozen=True)
class Resident:
    """A split on the device.

    Args:
        images: `(n, height, width, channels)` uint8. Batches are views with channels last in memory.
        labels: `(n,)` class numbers, on the device.
        mean, std: per channel, on the scale 0..1, on the device.
        streamed: the images are on the host, for the device cannot hold them.
    """

    images: UInt8[Tensor, "n h w c"]
    labels: Int64[Tensor, " n"]
    mean: Float[Tensor, " c"]
    std: Float[Tensor, " c"]
    streamed: bool = False

    @classmethod
    def load(cls, split: Split, mean: Sequence[float], std: Sequence[float], device: torch.device) -> "Resident":
        """Moves a split to `device`; on the CPU the images stay the memory-mapped pages that all workers share."""
        images, labels = torch.from_numpy(split.images), torch.from_numpy(split.labels).to(device)
        mean_, std_ = (torch.tensor(values, dtype=torch.float32, device=device) for values in (mean, std))
        if device.type == "cuda" and not fits(images.nbytes, torch.cuda.mem_get_info(device)[0]):
            return cls(images, labels, mean_, std_, streamed=True)
        return cls(images.to(device), labels, mean_, std_)

    @property
    def device(self) -> torch.device:
        """Where batches are made."""
        return self.labels.device

    def __len__(self) -> int:
        return len(self.labels)

    def normalise(self, batch: UInt8[Tensor, "b h w c"]) -> Float[Tensor, "b c h w"]:
        """uint8 pixels to zero mean and unit variance per channel of the training split."""
        # Whole lines at once: a loop over three channels takes twenty times as long on a CPU.
        lines = batch.flatten(2).float()
        width = batch.shape[2]
        scaled = torch.addcmul((-self.mean / self.std).repeat(width), lines, (1 / (255 * self.std)).repeat(width))
        return scaled.view(batch.shape).permute(0, 3, 1, 2)


def evaluation_batches(split: Resident, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Every image once, in order, as it is."""
    for start in range(0, len(split), batch_size):
        part = slice(start, start + batch_size)
        yield split.normalise(split.images[part].to(split.device)), split.labels[part]
