"""Augmentation against torchvision's own transforms, the papers' definitions, and arithmetic by hand."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, kstest
from sklearn.datasets import load_sample_images
from torchvision.transforms import v2 as transforms
from torchvision.transforms.v2 import functional as vision

from search.spec import TrainSpec
from search.training import Resident
from search.training.augment import Batch, batch, crop_and_flip, cut_out_, draw
from tests.support.sample_digits import pixels, resident


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
    assert torch.equal(crop_and_flip(image, 0, None, None), image)
    assert torch.equal(crop_and_flip(image, 0, None, torch.tensor([False])), image)
    mirrored = crop_and_flip(image, 0, None, torch.tensor([True]))
    assert np.array_equal(mirrored.numpy(), image.numpy()[:, :, ::-1])


def numbered(n: int) -> Resident:
    """Images of one colour, number k in two bytes, labelled k."""
    images = torch.zeros(n, 6, 6, 2, dtype=torch.uint8)
    number = torch.arange(n)
    images[..., 0], images[..., 1] = (number // 256)[:, None, None], (number % 256)[:, None, None]
    return Resident(images, number, torch.zeros(2), torch.ones(2))


def spec(size: int, **fields: Any) -> TrainSpec:
    return TrainSpec(**({"batch_size": size, "crop_padding": 0, "flip": False} | fields))


def batches(split: Resident, given: TrainSpec, seed: int) -> list[Batch]:
    """One epoch."""
    draws = draw(given, len(split), (split.images.shape[1], split.images.shape[2]), seed)
    steps = len(draws["order"])
    assert all(len(rows) == steps for rows in draws.values())
    return [batch(split, given, {name: rows[k] for name, rows in draws.items()}) for k in range(steps)]


def epoch(split: Resident, size: int, seed: int, **fields: Any) -> list[torch.Tensor]:
    """Labels by batch; the images must be theirs."""
    made = batches(split, spec(size, **fields), seed)
    for one in made:
        centre = (one.images[:, :, 3, 3] * 255).round().long()
        assert torch.equal(centre[:, 0] * 256 + centre[:, 1], one.labels)
    return [one.labels for one in made]


def test_every_image_at_most_once_an_epoch() -> None:
    split = numbered(330)
    made = epoch(split, 32, seed=1, crop_padding=2, flip=True)
    assert [len(b) for b in made] == [32] * 10
    seen = torch.cat(made).tolist()
    assert len(set(seen)) == 320
    assert seen != sorted(seen)
    others = torch.cat(epoch(split, 32, seed=2)).tolist()
    assert seen != others
    assert set(range(330)) - set(seen) != set(range(330)) - set(others), "other images are left out"
    (labels,) = epoch(numbered(7), 128, seed=0)
    assert sorted(labels.tolist()) == list(range(7)), "a split smaller than a batch is one batch"


def test_offsets_and_directions_are_equally_likely() -> None:
    """One bright pixel in the middle of 9 x 9: where it goes tells offset and, off the middle column, direction."""
    n = 9000
    images = torch.zeros(n, 9, 9, 1, dtype=torch.uint8)
    images[:, 4, 2] = 255  # mirrored: column 6
    split = Resident(images, torch.zeros(n, dtype=torch.int64), torch.zeros(1), torch.ones(1))
    (made,) = batches(split, spec(n, crop_padding=1, flip=True), seed=3)
    places = made.images[:, 0].flatten(1).argmax(1)
    counts = {divmod(place, 9): n for place, n in enumerate(torch.bincount(places, minlength=81).tolist()) if n}
    assert set(counts) == {(row, column) for row in (3, 4, 5) for column in (1, 2, 3, 5, 6, 7)}
    assert chisquare(list(counts.values())).pvalue > 0.001


def test_zeros_are_padded_before_normalising() -> None:
    split = Resident(
        torch.full((4, 4, 4, 1), 255, dtype=torch.uint8), torch.arange(4), torch.tensor([0.5]), torch.tensor([0.5])
    )
    given = spec(4, crop_padding=2)
    values = {
        round(v, 6) for seed in range(10) for one in batches(split, given, seed) for v in one.images.flatten().tolist()
    }
    assert values == {-1.0, 1.0}, "a padded pixel is black, not the mean"


@pytest.mark.parametrize(
    "fields", [{}, {"crop_padding": 4, "flip": True}, {"crop": "resized"}, {"cutout": 3}, {"mixup": 1.0}]
)
def test_channels_last_in_memory(fields: dict[str, Any]) -> None:
    images = photograph().repeat(5, 1, 1, 1)
    split = Resident(images, torch.zeros(5, dtype=torch.int64), torch.zeros(3), torch.ones(3))
    (made,) = batches(split, spec(5, **fields), seed=0)
    assert made.images.shape == (5, 3, 20, 24)
    assert made.images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("side", [1, 4, 5, 16])
def test_cutout_by_its_definition(side: int) -> None:
    """Pixel by pixel; with an even side the same pixels as the paper's own code, which goes from c - L/2 to c + L/2."""
    images = torch.rand(40, 3, 9, 11) + 1
    centres = torch.stack([torch.arange(40) % 9, torch.arange(40) % 11])
    made = images.clone()
    cut_out_(made, side, centres)
    for image, result, row, column in zip(images, made, *centres.tolist(), strict=True):
        expected = image.clone()
        top, left = row - side // 2, column - side // 2
        expected[:, max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)] = 0
        assert torch.equal(result, expected)


def test_mixup_is_torchvisions() -> None:
    split = resident(0, 64)
    given = spec(32, mixup=0.4)
    for mixed, plain in zip(batches(split, given, 5), batches(split, spec(32), 5), strict=True):
        assert mixed.mixed is not None
        others, share = mixed.mixed
        theirs = transforms.MixUp(num_classes=10)
        params = {"lam": share.item(), "labels": plain.labels, "batch_size": 32}
        torch.testing.assert_close(mixed.images, theirs.transform(plain.images, params))
        first, second = (torch.nn.functional.one_hot(labels, 10) for labels in (mixed.labels, others))
        wanted = theirs.transform(plain.labels, params)
        torch.testing.assert_close(share * first + (1 - share) * second, wanted, check_dtype=False)


def test_mixup_shares_are_beta_and_cutout_centres_uniform() -> None:
    shares = draw(spec(2, mixup=0.4), 8000, (2, 2), seed=7)["share"]
    assert shares.shape == (4000,)
    assert kstest(shares.numpy(), "beta", args=(0.4, 0.4)).pvalue > 0.001
    centres = draw(spec(6000, cutout=2), 6000, (5, 3), seed=1)["centres"][0]
    assert chisquare(torch.bincount(centres[0] * 3 + centres[1], minlength=15)).pvalue > 0.001


def test_an_epoch_follows_from_its_seed_alone() -> None:
    given = spec(8, crop_padding=2, flip=True, cutout=2, mixup=1.0)
    torch.manual_seed(1)
    first = draw(given, 64, (8, 8), seed=3)
    np.random.default_rng().random()
    torch.manual_seed(2)
    again, other = draw(given, 64, (8, 8), seed=3), draw(given, 64, (8, 8), seed=4)
    assert set(first) == {"order", "offsets", "mirrored", "centres", "share"}
    for name, values in first.items():
        assert torch.equal(values, again[name])
        assert not torch.equal(values, other[name])
