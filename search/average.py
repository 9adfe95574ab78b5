"""Exponential moving average of a network's weights."""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Average:
    """A second network that follows the first: each weight w becomes d w + (1 - d) w' after every step.

    Running statistics are averaged too; counters are copied. Begins as a copy.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = deepcopy(model).requires_grad_(False)
        self._move = get_ema_multi_avg_fn(decay)
        mine, theirs = self.model.state_dict(), model.state_dict()
        floating = [name for name, tensor in mine.items() if tensor.is_floating_point()]
        self._mine, self._theirs = [mine[n] for n in floating], [theirs[n] for n in floating]
        self._copied: list[tuple[Tensor, Tensor]] = [(mine[n], theirs[n]) for n in mine if n not in set(floating)]

    @torch.no_grad()
    def update(self) -> None:
        """After a step of the first network."""
        self._move(self._mine, self._theirs, None)
        for mine, theirs in self._copied:
            mine.copy_(theirs)
