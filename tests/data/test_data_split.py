"""Sizes and positions of stratified splits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.data.splits import Stream, arrange, draw, portions, quotas
from search.spec import DataSpec

counts = st.lists(st.integers(4, 60), min_size=2, max_size=8)


@pytest.mark.parametrize(
    ("images", "fraction", "expected"),
    [
        ([5000] * 3, 0.1, [500] * 3),
        ([10, 14, 15, 17], 0.15, [2, 2, 2, 3]),  # 1.5, 2.1, 2.25 and 2.55: halves up
        ([50, 50], 0.29, [15, 15]),  # 14.5, although 0.29 * 50 is 14.499999999999998 in floats
        ([2, 3, 4], 0.01, [1, 1, 1]),  # at least one
        ([2, 3, 4], 0.89, [1, 2, 3]),  # never all
    ],
)
def test_portions_by_hand(images: list[int], fraction: float, expected: list[int]) -> None:
    assert portions(images, fraction) == expected


@pytest.mark.parametrize(
    ("images", "total", "expected"),
    [
        ([50, 30, 20], 10, [5, 3, 2]),
        ([50, 30, 20], 9, [4, 3, 2]),  # 4.5, 2.7 and 1.8: the remainders .8 and .7 win
        ([98, 1, 1], 10, [8, 1, 1]),  # 9.8, 0.1 and 0.1: one of each class, taken from the largest
        ([5, 5], 10, [5, 5]),
    ],
)
def test_quotas_by_hand(images: list[int], total: int, expected: list[int]) -> None:
    assert quotas(images, total) == expected


@given(counts, st.data())
def test_quotas_add_up_and_fit(images: list[int], data: st.DataObject) -> None:
    total = data.draw(st.integers(len(images), sum(images)))
    kept = quotas(images, total)
    assert sum(kept) == total
    assert all(1 <= k <= n for k, n in zip(kept, images, strict=True))


@given(counts, st.floats(0.01, 0.4), st.floats(0.01, 0.4), st.integers(0, 2**32))
def test_every_image_is_in_one_split_which_is_stratified(
    images: list[int], validation: float, test: float, seed: int
) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(images)), images))
    spec = DataSpec(validation=validation, test=test, seed=seed)
    parts = arrange(spec, ["of any name"] * len(images), {"train": labels})
    positions = [where for _, where in parts.values()]
    assert sorted(np.concatenate(positions)) == list(range(len(labels)))
    assert all((np.diff(where) > 0).all() for where in positions)
    assert np.bincount(labels[parts["test"][1]]).tolist() == portions(images, test)
    left = [n - k for n, k in zip(images, portions(images, test), strict=True)]
    assert np.bincount(labels[parts["validation"][1]]).tolist() == portions(left, validation)


def test_every_image_of_a_class_is_as_likely() -> None:
    hits = np.zeros(20)
    for seed in range(4000):
        hits[draw(np.zeros(20, np.int64), [5], seed, Stream.VALIDATION)] += 1
    expected = 4000 * 5 / 20  # with a variance of n p (1 - p), as they are drawn without replacement
    chi_square = ((hits - expected) ** 2 / (expected * 0.75)).sum() * 19 / 20
    assert chi_square < 43.8  # 99.9 % quantile of chi square with 19 degrees of freedom


def test_splits_of_one_seed_are_independent() -> None:
    labels = np.zeros(1000, np.int64)
    first, second = (set(draw(labels, [500], 0, stream).tolist()) for stream in (Stream.TEST, Stream.VALIDATION))
    assert 200 < len(first & second) < 300  # 250 expected, with a standard deviation of 8


def test_the_split_of_an_old_study_is_the_split_of_a_new_one() -> None:
    labels = np.arange(30, dtype=np.int64) % 3
    assert draw(labels, [2, 2, 2], 0, Stream.VALIDATION).tolist() == [7, 10, 11, 15, 18, 23]
