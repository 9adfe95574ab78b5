"""scikit-learn's digits as splits on the CPU: real images, without the data module."""

from functools import cache

import numpy as np
import torch
from sklearn.datasets import load_digits

from search.training import Resident

CPU = torch.device("cpu")


@cache
def pixels() -> tuple[np.ndarray, np.ndarray]:
    """1,797 images, uint8 (n, 8, 8, 1), and their labels, int64 (n,)."""
    digits = load_digits()
    return (digits.images * 15).astype(np.uint8)[..., None], digits.target.astype(np.int64)


def resident(first: int, last: int) -> Resident:
    """Images `first` to `last`, scaled by the mean and the standard deviation of the first 1,000."""
    images, labels = pixels()
    scale = images[:1000] / 255.0
    mean, std = (torch.tensor([float(v)], dtype=torch.float32) for v in (scale.mean(), scale.std()))
    return Resident(torch.from_numpy(images[first:last]), torch.from_numpy(labels[first:last]), mean, std)
