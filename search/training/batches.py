"""Images that live on the device as uint8, or, where it cannot hold them, come to it batch by batch."""

import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from numpy.typing import NDArray
from torch import Tensor

from search.data import Split

SHARE = 0.6  # of the free memory that images may fill: the rest is for the network and its activations
SLOTS = 3  # batches: with the caller, ready, and being gathered


def fits(size: int, free: int) -> bool:
    """Whether images of `size` bytes are to stay on a device that has `free` bytes."""
    return size <= SHARE * free


def stream(
    images: UInt8[Tensor, "n h w c"] | NDArray[np.uint8],
    order: Int64[Tensor, "steps b"] | Sequence[Int64[Tensor, " b"]],
    device: torch.device,
) -> Generator[UInt8[Tensor, "b h w c"]]:
    """The batches `images[row] for row in order` on `device`, gathered by a thread while the caller works on another.

    A batch is valid until the next is asked for: its memory is used again, in the order of the stream of the device
    that is current where it is asked for. Closing the iterator ends the thread. The thread calls the device: a CUDA
    graph that is captured meanwhile needs `capture_error_mode="thread_local"`.

    Args:
        images: on the host, such as a memory-mapped array.
        order: which images make each batch, on the host; batches may differ in size.
        device: where they go. On the CPU they are copied once, as they are on the way to a GPU.

    Raises:
        Exception: whatever ended the thread, such as IndexError for an image that there is not.
    """
    source, rows = torch.as_tensor(images), list(order)
    if not rows:
        return
    largest = max(len(row) for row in rows)
    free: queue.SimpleQueue[_Slot] = queue.SimpleQueue()
    ready: queue.SimpleQueue[_Slot | Exception] = queue.SimpleQueue()
    closed = threading.Event()
    slots = [_Slot(torch.Size([largest, *source.shape[1:]]), device) for _ in range(SLOTS)]
    for slot in slots:
        free.put(slot)

    def gather() -> None:
        try:
            copying = torch.cuda.Stream(device) if device.type == "cuda" else None
            for row in rows:
                slot = free.get()
                if closed.is_set():
                    return
                slot.fill(source, row, copying)
                ready.put(slot)
        except Exception as error:  # the caller raises it
            ready.put(error)

    thread = threading.Thread(target=gather, name="stream of images", daemon=True)
    thread.start()
    try:
        for row in rows:
            slot = ready.get()
            if isinstance(slot, Exception):
                raise slot
            yield slot.batch(len(row))
            slot.release()
            free.put(slot)
    finally:
        closed.set()
        free.put(slots[0])  # wakes the thread, if it waits
        thread.join()
        for slot in slots:
            slot.settle()


class _Slot:
    """Memory for a batch, here and on the device; on the CPU it is one and the same."""

    def __init__(self, shape: torch.Size, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._here = torch.empty(shape, dtype=torch.uint8, pin_memory=self._cuda)
        self._there = torch.empty(shape, dtype=torch.uint8, device=device) if self._cuda else self._here
        self._copied, self._used = (torch.cuda.Event(), torch.cuda.Event()) if self._cuda else (None, None)
        self.release()  # of whoever had this memory before, in the stream that is current now

    def fill(self, source: Tensor, row: Tensor, copying: "torch.cuda.Stream | None") -> None:
        """Gathers the images of `row` and starts their copy, after those who still read the last batch of this slot."""
        self.settle()
        torch.index_select(source, 0, row, out=self._here[: len(row)])
        if copying is not None and self._copied is not None and self._used is not None:
            with torch.cuda.stream(copying):
                copying.wait_event(self._used)
                self._there[: len(row)].copy_(self._here[: len(row)], non_blocking=True)
                self._copied.record(copying)

    def batch(self, size: int) -> Tensor:
        """The images on the device, for whom comes next in the current stream there."""
        if self._copied is not None:
            torch.cuda.current_stream(self._there.device).wait_event(self._copied)
        return self._there[:size]

    def release(self) -> None:
        """What was asked of the current stream up to here may still read the batch; what comes later does not."""
        if self._used is not None:
            self._used.record(torch.cuda.current_stream(self._there.device))

    def settle(self) -> None:
        """Waits until the last copy has ended: both memories may be written then, or given back."""
        if self._copied is not None:
            self._copied.synchronize()


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
