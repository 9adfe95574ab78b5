"""Resident images, and batches for evaluation, against arithmetic by hand."""

import pytest
import torch

from search.data import Split
from search.training import Resident
from search.training.batches import evaluation_batches
from tests.support.sample_digits import pixels, resident


def test_normalisation_by_hand() -> None:
    images = torch.tensor([0, 51, 102, 255], dtype=torch.uint8).reshape(1, 2, 2, 1).repeat(1, 1, 1, 2)
    split = Resident(images, torch.zeros(1, dtype=torch.int64), torch.tensor([0.2, 0.5]), torch.tensor([0.4, 0.25]))
    ((batch, _),) = evaluation_batches(split, 8)
    assert batch.dtype == torch.float32
    assert batch[0, 0].flatten().tolist() == pytest.approx([-0.5, 0.0, 0.5, 2.0], abs=1e-6)
    assert batch[0, 1].flatten().tolist() == pytest.approx([-2.0, -1.2, -0.4, 2.0], abs=1e-6)
    assert images.flatten()[:2].tolist() == [0, 0], "the stored pixels stay as they are"


def test_evaluation_reads_all_in_order() -> None:
    split = resident(0, 50)
    batches = list(evaluation_batches(split, 16))
    assert [len(labels) for _, labels in batches] == [16, 16, 16, 2]
    assert torch.equal(torch.cat([labels for _, labels in batches]), torch.from_numpy(pixels()[1][:50]))


def test_loaded_on_the_cpu_without_a_copy() -> None:
    images, labels = pixels()
    loaded = Resident.load(Split(images, labels), (0.3,), (0.4,), torch.device("cpu"))
    assert loaded.images.data_ptr() == images.ctypes.data
    assert len(loaded) == 1797
