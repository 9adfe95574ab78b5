"""Batches against torchvision's own transforms, and against arithmetic by hand."""

import numpy as np
import pytest
import torch
from sample_digits import pixels, resident
from sklearn.datasets import load_sample_images
from torchvision.transforms.v2 import functional as vision

from search.batches import Resident, crop_and_flip, evaluation_batches, training_batches
from search.data import Split


def photograph() -> torch.Tensor:
    """A piece of a real photograph, uint8 (1, 20, 24, 3): neither square nor grey."""
    return torch.from_numpy(np.ascontiguousarray(load_sample_images().images[0][200:220, 300:324]))[None]


def digit() -> torch.Tensor:
    return torch.from_numpy(pixels()[0][5:6])


@pytest.mark.parametrize("image", [digit(), photograph()], ids=["digit", "photograph"])
@pytest.mark.parametrize("padding", [4, 1])
def test_every_outcome_is_torchvisions(image: torch.Tensor, padding: int) -> None:
    """All (2p + 1)^2 offsets and both directions: 162 outcomes for the padding of 4 of the papers."""
    places = range(2 * padding + 1)
    outcomes = [(top, left, flip) for top in places for left in places for flip in (False, True)]
    assert padding != 4 or len(outcomes) == 162
    offsets = torch.tensor([[top for top, _, _ in outcomes], [left for _, left, _ in outcomes]])
    mirrored = torch.tensor([flip for _, _, flip in outcomes])
    batch = crop_and_flip(image.expand(len(outcomes), -1, -1, -1), padding, offsets, mirrored)
    height, width = image.shape[1:3]
    padded = vision.pad(image.permute(0, 3, 1, 2), [padding] * 4)
    for mine, (top, left, flip) in zip(batch, outcomes, strict=True):
        expected = vision.crop(padded, top, left, height, width)
        expected = vision.horizontal_flip(expected) if flip else expected
        assert torch.equal(mine, expected[0].permute(1, 2, 0))


def test_no_padding_and_flip_alone() -> None:
    image = photograph()
    nothing = torch.zeros(2, 1, dtype=torch.int64)
    assert torch.equal(crop_and_flip(image, 0, nothing, torch.tensor([False])), image)
    mirrored = crop_and_flip(image, 0, nothing, torch.tensor([True]))
    assert np.array_equal(mirrored.numpy(), image.numpy()[:, :, ::-1])


def numbered(n: int) -> Resident:
    """Images of one colour, number k in two bytes, labelled k."""
    images = torch.zeros(n, 6, 6, 2, dtype=torch.uint8)
    number = torch.arange(n)
    images[..., 0], images[..., 1] = (number // 256)[:, None, None], (number % 256)[:, None, None]
    return Resident(images, number, torch.zeros(2), torch.ones(2))


def epoch(split: Resident, size: int, seed: int, padding: int = 0, flip: bool = False) -> list[torch.Tensor]:
    """Labels by batch; the images must be theirs."""
    batches = []
    for images, labels in training_batches(split, size, padding, flip, torch.Generator().manual_seed(seed)):
        centre = (images[:, :, 3, 3] * 255).round().long()
        assert torch.equal(centre[:, 0] * 256 + centre[:, 1], labels)
        batches.append(labels)
    return batches


def test_every_image_at_most_once_an_epoch() -> None:
    split = numbered(330)
    batches = epoch(split, 32, seed=1, padding=2, flip=True)
    assert [len(b) for b in batches] == [32] * 10
    seen = torch.cat(batches).tolist()
    assert len(set(seen)) == 320
    assert seen != sorted(seen)
    others = torch.cat(epoch(split, 32, seed=2)).tolist()
    assert seen != others
    assert set(range(330)) - set(seen) != set(range(330)) - set(others), "other images are left out"
    assert torch.equal(torch.cat(epoch(split, 32, seed=1)), torch.cat(batches)), "the order follows from the seed"


def test_split_smaller_than_a_batch_is_one_batch() -> None:
    (labels,) = epoch(numbered(7), 128, seed=0)
    assert sorted(labels.tolist()) == list(range(7))


def test_offsets_and_directions_are_equally_likely() -> None:
    """One bright pixel in the middle of 9 x 9: where it goes tells offset and, off the middle column, direction."""
    n, padding = 9000, 1
    images = torch.zeros(n, 9, 9, 1, dtype=torch.uint8)
    images[:, 4, 2] = 255  # mirrored: column 6
    split = Resident(images, torch.zeros(n, dtype=torch.int64), torch.zeros(1), torch.ones(1))
    ((batch, _),) = training_batches(split, n, padding, True, torch.Generator().manual_seed(3))
    places = batch[:, 0].flatten(1).argmax(1)
    counts = {divmod(place, 9): n for place, n in enumerate(torch.bincount(places, minlength=81).tolist()) if n}
    assert set(counts) == {(row, column) for row in (3, 4, 5) for column in (1, 2, 3, 5, 6, 7)}
    squares = sum((seen - n / 18) ** 2 / (n / 18) for seen in counts.values())
    assert squares < 40.8  # chi-square of 17 degrees of freedom, p = 0.001


def test_normalisation_by_hand() -> None:
    images = torch.tensor([0, 51, 102, 255], dtype=torch.uint8).reshape(1, 2, 2, 1).repeat(1, 1, 1, 2)
    split = Resident(images, torch.zeros(1, dtype=torch.int64), torch.tensor([0.2, 0.5]), torch.tensor([0.4, 0.25]))
    ((batch, _),) = evaluation_batches(split, 8)
    assert batch.dtype == torch.float32
    assert batch[0, 0].flatten().tolist() == pytest.approx([-0.5, 0.0, 0.5, 2.0], abs=1e-6)
    assert batch[0, 1].flatten().tolist() == pytest.approx([-2.0, -1.2, -0.4, 2.0], abs=1e-6)
    assert images.flatten()[:2].tolist() == [0, 0], "the stored pixels stay as they are"


def test_zeros_are_padded_before_normalising() -> None:
    split = Resident(
        torch.full((4, 4, 4, 1), 255, dtype=torch.uint8), torch.arange(4), torch.tensor([0.5]), torch.tensor([0.5])
    )
    values = {
        round(v, 6)
        for seed in range(10)
        for images, _ in training_batches(split, 4, 2, False, torch.Generator().manual_seed(seed))
        for v in images.flatten().tolist()
    }
    assert values == {-1.0, 1.0}, "a padded pixel is black, not the mean"


def test_channels_last_in_memory() -> None:
    images = photograph().repeat(5, 1, 1, 1)
    split = Resident(images, torch.zeros(5, dtype=torch.int64), torch.zeros(3), torch.ones(3))
    for batches in (
        training_batches(split, 5, 4, True, torch.Generator().manual_seed(0)),
        training_batches(split, 5, 0, False, torch.Generator().manual_seed(0)),
        evaluation_batches(split, 5),
    ):
        ((batch, _),) = batches
        assert batch.shape == (5, 3, 20, 24)
        assert batch.is_contiguous(memory_format=torch.channels_last)


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
