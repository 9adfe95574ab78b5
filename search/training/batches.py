"""Images on the device as uint8, or, where it cannot hold them, coming to it batch by batch; and their other sizes."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from search.data import Split
from search.training.device import free_memory

SHARE = 0.6  # of the free memory that images may fill: the rest is for the network and its activations
AHEAD = 2  # batches that are gathered while the caller works on one


def fits(size: int, free: int) -> bool:
    """Whether images of `size` bytes are to stay on a device that has `free` bytes."""
    return size <= SHARE * free


def stream(
    images: UInt8[Tensor, "n h w c"], order: Iterable[Int64[Tensor, " b"]], pinned: bool = False
) -> Generator[UInt8[Tensor, "b h w c"]]:
    """The batches `images[row] for row in order`, gathered by a thread while the caller works on another.

    Closing the iterator ends the thread. The thread calls CUDA where memory is pinned: a graph that is captured
    meanwhile needs `capture_error_mode="thread_local"`.

    Args:
        images: on the host, such as a memory-mapped array.
        order: which images make each batch, on the host; batches may differ in size.
        pinned: in memory that a GPU copies without waiting; torch uses it again only after such a copy has ended.

    Raises:
        IndexError: there is no such image.
    """

    def gather(row: Int64[Tensor, " b"]) -> UInt8[Tensor, "b h w c"]:
        batch = torch.empty(len(row), *images.shape[1:], dtype=torch.uint8, pin_memory=pinned)
        return torch.index_select(images, 0, row, out=batch)

    ahead: deque[Future[Tensor]] = deque()
    pool = ThreadPoolExecutor(1, "stream of images")
    try:
        for row in order:
            ahead.append(pool.submit(gather, row))
            if len(ahead) > AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class Resident:
    """A split on the device; `streamed`: its images are on the host, for the device cannot hold them.

    Where networks see smaller images, `size` is their side in pixels. Mean and deviation are per channel, on the scale
    0..1. Batches are views with channels last in memory.
    """

    images: UInt8[Tensor, "n h w c"]
    labels: Int64[Tensor, " n"]
    mean: Float[Tensor, " c"]
    std: Float[Tensor, " c"]
    streamed: bool = False
    size: int = 0

    @classmethod
    def load(cls, split: Split, mean: Sequence[float], std: Sequence[float], device: torch.device) -> "Resident":
        """Moves a split to `device`; on the CPU the images stay the memory-mapped pages that all workers share."""
        images, labels = torch.from_numpy(split.images), torch.from_numpy(split.labels).to(device)
        mean_, std_ = (torch.tensor(values, dtype=torch.float32, device=device) for values in (mean, std))
        if device.type == "cuda" and not fits(images.nbytes, free_memory(device)):
            return cls(images, labels, mean_, std_, streamed=True)
        return cls(images.to(device), labels, mean_, std_)

    @property
    def device(self) -> torch.device:
        """Where batches are made."""
        return self.labels.device

    def at(self, size: int) -> "Resident":
        """The same, to be evaluated on images of `size` pixels; 0: as they are."""
        return replace(self, size=size)

    def seen(self, part: slice) -> UInt8[Tensor, "b h w c"]:
        """Some of the images, whole, as networks see them in evaluation."""
        images = self.images[part].to(self.device)
        return resized(images, (self.size, self.size)) if self.size else images

    def __len__(self) -> int:
        return len(self.labels)

    def normalise(self, batch: UInt8[Tensor, "b h w c"]) -> Float[Tensor, "b c h w"]:
        """uint8 pixels to zero mean and unit variance per channel of the training split."""
        # Whole lines at once: a loop over three channels takes twenty times as long on a CPU.
        lines = batch.flatten(2).float()
        shift, scale = (values.repeat(batch.shape[2]) for values in self._scaling)
        return torch.addcmul(shift, lines, scale).view(batch.shape).permute(0, 3, 1, 2)

    @cached_property
    def _scaling(self) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"]]:
        return -self.mean / self.std, 1 / (255 * self.std)


def evaluation_batches(split: Resident, batch_size: int, own: slice) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """The images of `own` once, in order, whole: where they are, images, labels."""
    for start in range(own.start, own.stop, batch_size):
        part = slice(start, min(start + batch_size, own.stop))
        yield part, split.normalise(split.seen(part)), split.labels[part]


def resized(images: UInt8[Tensor, "b h w c"], sides: tuple[int, int]) -> UInt8[Tensor, "b rows columns c"]:
    """Whole images resized to `sides` (height, width), as `resized_crop` does it."""
    height, width = images.shape[1:3]
    if (height, width) == sides:
        return images
    whole = [torch.full((1,), value, device=images.device) for value in (0, 0, height, width)]
    return resized_crop(images, torch.stack(whole), None, sides)


def resized_crop(
    images: UInt8[Tensor, "b h w c"],
    boxes: Int64[Tensor, "4 b"],
    mirrored: Bool[Tensor, " b"] | None,
    sides: tuple[int, int],
) -> UInt8[Tensor, "b rows columns c"]:
    """The part of image `i` in `boxes[:, i]`, resized to `sides` (height, width), mirrored where `mirrored[i]`.

    Bilinear with antialiasing, at most one level of 255 from torchvision's, which rounds between its two passes. Two
    matrix products for all images; nothing waits for the host and every shape is known, so it can be captured in a CUDA
    graph. TF32 holds the weights well enough, the 8 bits of bfloat16 do not: not to be called under autocast.
    """
    number, height, width, channels = images.shape
    top, left, high, wide = boxes
    lines, places = sides
    rows = _weights(top, high, height, lines)
    columns = _weights(left, wide, width, places)
    if mirrored is not None:
        columns = torch.where(mirrored[:, None, None], columns.flip(1), columns)
    shrunk = rows @ images.reshape(number, height, width * channels).float()
    across = shrunk.view(number, lines, width, channels).transpose(1, 2).reshape(number, width, lines * channels)
    resized = (columns @ across).round_().to(torch.uint8)
    return resized.view(number, places, lines, channels).transpose(1, 2).contiguous()


def _weights(
    start: Int64[Tensor, " b"], extent: Int64[Tensor, " b"], side: int, size: int
) -> Float[Tensor, "b size side"]:
    """How much each of an image's `side` lines counts in each of the `size` lines that its box becomes; rows sum to 1.

    A triangle about the place in the box that the line comes from, two lines wide, or wider where the box shrinks.
    """
    scale = (extent.float() / size)[:, None, None]
    centre = (torch.arange(size, device=start.device) + 0.5)[:, None] * scale
    place = torch.arange(side, device=start.device) - start[:, None, None]
    triangle = (1 - (place + 0.5 - centre).abs() / scale.clamp(min=1)).clamp(min=0)
    inside = triangle.where((place >= 0) & (place < extent[:, None, None]), 0.0)
    return inside / inside.sum(2, keepdim=True)
