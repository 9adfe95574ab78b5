"""Resident images, batches for evaluation, and batches streamed from the host, and how their thread ends."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from search.data import Split
from search.training import Resident
from search.training.batches import evaluation_batches, fits, stream
from tests.support.sample_digits import pixels, resident


def test_normalisation_by_hand() -> None:
    images = torch.tensor([0, 51, 102, 255], dtype=torch.uint8).reshape(1, 2, 2, 1).repeat(1, 1, 1, 2)
    split = Resident(images, torch.zeros(1, dtype=torch.int64), torch.tensor([0.2, 0.5]), torch.tensor([0.4, 0.25]))
    ((_, batch, _),) = evaluation_batches(split, 8, slice(0, 1))
    assert batch.dtype == torch.float32
    assert batch[0, 0].flatten().tolist() == pytest.approx([-0.5, 0.0, 0.5, 2.0], abs=1e-6)
    assert batch[0, 1].flatten().tolist() == pytest.approx([-2.0, -1.2, -0.4, 2.0], abs=1e-6)
    assert images.flatten()[:2].tolist() == [0, 0], "the stored pixels stay as they are"


def test_evaluation_reads_all_in_order() -> None:
    batches = list(evaluation_batches(resident(0, 50), 16, slice(0, 50)))
    assert [len(labels) for _, _, labels in batches] == [16, 16, 16, 2]
    assert torch.equal(torch.cat([labels for _, _, labels in batches]), torch.from_numpy(pixels()[1][:50]))


def test_evaluation_reads_a_part() -> None:
    batches = list(evaluation_batches(resident(0, 50), 16, slice(20, 45)))
    assert [part for part, _, _ in batches] == [slice(20, 36), slice(36, 45)]
    assert torch.equal(torch.cat([labels for _, _, labels in batches]), torch.from_numpy(pixels()[1][20:45]))


def test_loaded_on_the_cpu_without_a_copy() -> None:
    images, labels = pixels()
    loaded = Resident.load(Split(images, labels), (0.3,), (0.4,), torch.device("cpu"))
    assert loaded.images.data_ptr() == images.ctypes.data
    assert len(loaded) == 1797


@pytest.mark.parametrize(("size", "free", "stays"), [(60, 100, True), (61, 100, False), (0, 0, True), (1, 0, False)])
def test_images_stay_on_the_device_up_to_three_fifths_of_what_is_free(size: int, free: int, stays: bool) -> None:
    assert fits(size, free) is stays


def streams() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("stream of images")]


def test_streamed_batches_are_those_of_resident_images(tmp_path: Path) -> None:
    """Of a memory map, as prepared data are, and of different sizes."""
    np.save(tmp_path / "images.npy", pixels()[0])
    images = torch.from_numpy(np.load(tmp_path / "images.npy", mmap_mode="c"))
    order = torch.randperm(1797, generator=torch.Generator().manual_seed(0)).split(128)
    batches = list(stream(images, order))
    assert [len(batch) for batch in batches] == [128] * 14 + [5]
    assert all(torch.equal(batch, images[row]) for batch, row in zip(batches, order, strict=True))
    assert list(stream(images, [])) == []
    assert not streams()


def test_closing_early_ends_the_thread() -> None:
    batches = stream(torch.zeros(1000, 2, 2, 1, dtype=torch.uint8), torch.arange(1000).view(1000, 1))
    next(batches)
    assert len(streams()) == 1
    batches.close()
    assert not streams()


def test_an_error_of_the_thread_reaches_the_caller() -> None:
    batches = stream(torch.zeros(10, 2, 2, 1, dtype=torch.uint8), torch.tensor([[0, 1], [2, 10], [3, 4]]))
    next(batches)
    with pytest.raises(IndexError, match="out of range"):
        next(batches)
    assert not streams()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_pinned_batches_on_a_gpu_are_those_of_the_host() -> None:
    """The card works slowly on each batch, so that memory used again too early would be seen."""
    images = torch.randint(0, 256, (512, 64, 64, 3), dtype=torch.uint8)
    order = torch.randperm(512).repeat(8).view(64, 64)
    there, sums = torch.empty(64, 64, 64, 3, dtype=torch.uint8, device="cuda"), []
    for batch in stream(images, order, pinned=True):
        torch.cuda._sleep(10_000_000)  # cycles
        there.copy_(batch, non_blocking=True)
        sums.append(there.long().sum((1, 2, 3)))
    assert torch.equal(torch.cat(sums).cpu(), images.long().sum((1, 2, 3))[order.flatten()])
