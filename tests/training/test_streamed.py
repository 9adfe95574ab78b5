"""Batches streamed from the host against batches of images that live on the device, and how the thread ends."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from search.training.augment import crop_and_flip
from search.training.batches import fits, stream
from tests.support.sample_digits import pixels

CPU = torch.device("cpu")


def mapped(folder: Path) -> np.ndarray:
    """The 1797 digits, memory-mapped copy-on-write as prepared data are."""
    np.save(folder / "images.npy", pixels()[0])
    return np.load(folder / "images.npy", mmap_mode="c")


def streams() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "stream of images"]


@pytest.mark.parametrize(
    ("size", "free", "stays"),
    [(60, 100, True), (61, 100, False), (0, 0, True), (1, 0, False), (48 << 30, 80 << 30, True)],
)
def test_images_stay_on_the_device_up_to_three_fifths_of_what_is_free(size: int, free: int, stays: bool) -> None:
    assert fits(size, free) is stays


def test_batches_are_those_of_resident_images(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(1797, generator=generator)[: 14 * 128].view(14, 128)
    offsets = torch.randint(0, 5, (14, 2, 128), generator=generator)
    mirrored = torch.rand(14, 128, generator=generator) < 0.5
    resident = torch.from_numpy(pixels()[0])
    steps = 0
    for step, batch in enumerate(stream(mapped(tmp_path), order, CPU)):
        expected = crop_and_flip(resident[order[step]], 2, offsets[step], mirrored[step])
        assert torch.equal(crop_and_flip(batch, 2, offsets[step], mirrored[step]), expected)
        steps += 1
    assert steps == 14
    assert not streams()


def test_batches_of_different_sizes_and_of_a_tensor() -> None:
    images = torch.from_numpy(pixels()[0])
    seen = [batch.clone() for batch in stream(images, torch.arange(100).split(32), CPU)]
    assert [len(batch) for batch in seen] == [32, 32, 32, 4]
    assert torch.equal(torch.cat(seen), images[:100])
    assert list(stream(images, [], CPU)) == []


def test_a_batch_is_left_alone_until_the_next_is_asked_for() -> None:
    """While the caller works on a batch, the thread has the time to gather more than there is memory for."""
    images = torch.arange(64, dtype=torch.uint8).view(64, 1, 1, 1).expand(64, 8, 8, 1).contiguous()
    work = torch.rand(100, 100)
    for number, batch in enumerate(stream(images, torch.arange(64).view(64, 1), CPU)):
        for _ in range(5):
            torch.mm(work, work)
        assert batch.unique().tolist() == [number]


def test_closing_early_ends_the_thread() -> None:
    batches = stream(torch.zeros(1000, 2, 2, 1, dtype=torch.uint8), torch.arange(1000).view(1000, 1), CPU)
    next(batches)
    assert len(streams()) == 1
    batches.close()
    assert not streams()


def test_an_error_of_the_thread_reaches_the_caller() -> None:
    order = torch.tensor([[0, 1], [2, 10], [3, 4]])
    batches = stream(torch.zeros(10, 2, 2, 1, dtype=torch.uint8), order, CPU)
    next(batches)
    with pytest.raises(IndexError, match="out of range"):
        next(batches)
    assert not streams()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_batches_on_a_gpu_are_those_of_the_host() -> None:
    """The caller works slowly on each batch, so that memory used again too early would be seen."""
    device = torch.device("cuda")
    images = torch.randint(0, 256, (512, 64, 64, 3), dtype=torch.uint8)
    order = torch.randperm(512).repeat(8).view(64, 64)
    sums = []
    for batch in stream(images, order, device):
        torch.cuda._sleep(10_000_000)  # cycles
        sums.append(batch.long().sum((1, 2, 3)))
    assert torch.equal(torch.cat(sums).cpu(), images.long().sum((1, 2, 3))[order.flatten()])
