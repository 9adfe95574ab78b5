"""Stochastic depth (arXiv:1603.09382): in training, an image skips the residual branch of some units."""

from typing import cast

from jaxtyping import Float
from torch import Tensor, nn

from resnet.net import ResNet


class StochasticDepth(nn.Module):
    """In training 0 for each image with this probability, else x / (1 - probability); in evaluation x.

    As `torchvision.ops.stochastic_depth` with mode "row", from torch's generator, so that in evaluation nothing of the
    network is scaled (arXiv:1603.09382, equation 5).
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.survival = 1 - probability

    def forward(self, x: Float[Tensor, "n c i j"]) -> Float[Tensor, "n c i j"]:
        if not self.training:
            return x
        return x * x.new_empty(len(x), 1, 1, 1).bernoulli_(self.survival).div_(self.survival)

    def extra_repr(self) -> str:
        return f"survival={self.survival:g}"


def drop_branches(model: ResNet, probability: float) -> None:
    """Drops the branch F of unit l of L with l / L of this probability, as equation 4 has it.

    What drops it is the last module of F and holds no tensor: the network's state and its output in evaluation stay.
    """
    units = [layer[-1] for layer in model.layers()[1:-1]]
    for number, unit in enumerate(units, 1):
        cast(nn.Sequential, unit.F).append(StochasticDepth(probability * number / len(units)))
