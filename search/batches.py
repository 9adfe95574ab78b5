"""Images that live on the device as uint8, and the batches made of them without leaving it."""

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


def training_batches(
    split: Resident, batch_size: int, padding: int, flip: bool, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch in random order, each image cropped out of its zero-padded self and perhaps mirrored.

    Same outcomes with the same probabilities as torchvision's RandomCrop(side, padding) and RandomHorizontalFlip: zeros
    are padded before normalising, all (2 padding + 1)^2 offsets and both directions are equally likely. The last
    incomplete batch is left out (of other images in the next epoch); a split smaller than a batch is one batch.
    """
    size = min(batch_size, len(split))
    count = len(split) // size * size
    order = torch.randperm(len(split), generator=generator)[:count]
    offsets = torch.randint(0, 2 * padding + 1, (2, count), generator=generator)
    mirrored = torch.rand(count, generator=generator) < 0.5 if flip else torch.zeros(count, dtype=torch.bool)
    device = split.images.device
    order, offsets, mirrored = order.to(device), offsets.to(device), mirrored.to(device)
    for start in range(0, count, size):
        part = slice(start, start + size)
        images = crop_and_flip(split.images[order[part]], padding, offsets[:, part], mirrored[part])
        yield split.normalise(images), split.labels[order[part]]


def crop_and_flip(
    images: UInt8[Tensor, "b h w c"], padding: int, offsets: Int64[Tensor, "2 b"], mirrored: Tensor
) -> UInt8[Tensor, "b h w c"]:
    """Image `i` shifted by `offsets[:, i] - padding` over zeros, mirrored where `mirrored[i]`: one gather for all."""
    if padding == 0 and not bool(mirrored.any()):
        return images
    number, height, width, _ = images.shape
    padded = torch.nn.functional.pad(images, (0, 0, padding, padding, padding, padding))
    across = torch.arange(width, device=images.device)
    columns = torch.where(mirrored[:, None], across.flip(0), across) + offsets[1][:, None]
    rows = torch.arange(height, device=images.device) + offsets[0][:, None]
    which = torch.arange(number, device=images.device)
    return padded[which[:, None, None], rows[:, :, None], columns[:, None, :]]


def evaluation_batches(split: Resident, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Every image once, in order, as it is."""
    for start in range(0, len(split), batch_size):
        part = slice(start, start + batch_size)
        yield split.normalise(split.images[part]), split.labels[part]
