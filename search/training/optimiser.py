"""What moves the weights: torch's fused functions, layer by layer where layers learn at rates of their own.

The classes of `torch.optim` load torch's compiler, two seconds of every worker's start.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import assert_never

import torch
from torch import Tensor
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from resnet import ResNet
from search.spec import Optimizer, TrainSpec

BETAS, EPSILON = (0.9, 0.999), 1e-8  # of AdamW, torch's defaults


class Optimiser(ABC):
    """Moves the parameters of a model by their gradients, which all that is not frozen must have.

    They are in groups, of which the last has the head: all in one; or the head and the rest, where that is frozen at
    first; or each layer in its own, where `layer_decay` gives it a rate of its own. `rates` has one number a group, on
    the device, so that a captured step can move it.
    """

    def __init__(self, model: ResNet, spec: TrainSpec, device: torch.device) -> None:
        self._spec = spec
        self._names = {parameter: name for name, parameter in model.named_parameters()}
        *body, head = (list(layer.parameters()) for layer in model.layers())
        if spec.layer_decay == 1:
            rest = [parameter for layer in body for parameter in layer]
            body, head = ([rest], head) if spec.freeze_epochs else ([], rest + head)
        self._groups = [*body, head]
        self._first = 0  # group that moves
        self.rates = torch.full((len(self._groups),), spec.lr, dtype=torch.float32, device=device)

    @property
    def factors(self) -> list[float]:
        """Of each group, its rate to the head's: `layer_decay`^(layers from it to the head).

        As BEiT (arXiv:2106.08254) and timm's `param_groups_layer_decay` scale it.
        """
        last = len(self._groups) - 1
        return [self._spec.layer_decay ** (last - group) for group in range(last + 1)]

    def freeze(self, frozen: bool) -> None:
        """Whether only the head moves from now on: the rest has no gradients, and its moments stay as they are."""
        self._first = len(self._groups) - 1 if frozen else 0
        for group, parameters in enumerate(self._groups):
            for parameter in parameters:
                parameter.requires_grad_(group >= self._first)

    def zero_grad(self) -> None:
        for parameter in self._names:
            parameter.grad = None

    @property
    def gradients(self) -> list[Tensor]:
        """Of all parameters that have one."""
        return [parameter.grad for parameter in self._names if parameter.grad is not None]

    @torch.no_grad()
    def step(self) -> None:
        """Moves the parameters."""
        for group, parameters in enumerate(self._groups):
            if group >= self._first:
                gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
                self._move(group, [*parameters], gradients)

    def named(self, tensors: list[list[Tensor]]) -> dict[str, Tensor]:
        """Tensors as the groups have their parameters, by the name of the parameter; none of a group without."""
        return {
            self._names[parameter]: tensor
            for parameters, own in zip(self._groups, tensors, strict=True)
            for parameter, tensor in zip(parameters, own, strict=False)
        }

    @abstractmethod
    def _move(self, group: int, parameters: list[Tensor], gradients: list[Tensor]) -> None: ...

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """What the next step depends on, beside weights and rates, by name: the tensors themselves."""

    @abstractmethod
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Continues after a `state`."""


class SGD(Optimiser):
    """`torch.optim.SGD`: its state is a momentum buffer for each parameter, once that has moved."""

    def __init__(self, model: ResNet, spec: TrainSpec, device: torch.device) -> None:
        super().__init__(model, spec, device)
        self._momentum: list[list[Tensor]] = [[] for _ in self._groups]

    def _move(self, group: int, parameters: list[Tensor], gradients: list[Tensor]) -> None:
        spec = self._spec
        buffers: list[Tensor | None] = [*self._momentum[group]] or [None for _ in parameters]
        sgd(
            parameters,
            gradients,
            buffers,
            fused=True,
            lr=self.rates[group],
            momentum=spec.momentum,
            weight_decay=spec.weight_decay,
            nesterov=spec.nesterov and spec.momentum > 0,
            dampening=0,
            maximize=False,
        )
        self._momentum[group] = [buffer for buffer in buffers if buffer is not None]

    def state(self) -> dict[str, Tensor]:
        return self.named(self._momentum)

    def load(self, state: Mapping[str, Tensor]) -> None:
        for group, parameters in enumerate(self._groups):
            # Same memory format as the parameter, or the fused step would take another path.
            self._momentum[group] = [
                torch.empty_like(parameter).copy_(state[name])
                for parameter in parameters
                if (name := self._names[parameter]) in state
            ]


class AdamW(Optimiser):
    """`torch.optim.AdamW`: its state is, for each parameter, `mean/`, `square/` and, in steps, `steps/`."""

    def __init__(self, model: ResNet, spec: TrainSpec, device: torch.device) -> None:
        super().__init__(model, spec, device)
        self._moments = {
            "mean": [[torch.zeros_like(parameter) for parameter in group] for group in self._groups],
            "square": [[torch.zeros_like(parameter) for parameter in group] for group in self._groups],
            "steps": [[torch.zeros((), device=device) for _ in group] for group in self._groups],
        }

    def _move(self, group: int, parameters: list[Tensor], gradients: list[Tensor]) -> None:
        mean, square, steps = (tensors[group] for tensors in self._moments.values())
        adamw(
            parameters,
            gradients,
            mean,
            square,
            [],
            steps,
            fused=True,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=self.rates[group],
            weight_decay=self._spec.weight_decay,
            eps=EPSILON,
            maximize=False,
        )

    def state(self) -> dict[str, Tensor]:
        return {
            f"{kind}/{name}": tensor
            for kind, tensors in self._moments.items()
            for name, tensor in self.named(tensors).items()
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        for name, tensor in self.state().items():
            tensor.copy_(state[name])


def optimiser(model: ResNet, spec: TrainSpec, device: torch.device) -> Optimiser:
    """What `spec` asks for, of a model on this device."""
    match spec.optimizer:
        case Optimizer.SGD:
            return SGD(model, spec, device)
        case Optimizer.ADAMW:
            return AdamW(model, spec, device)
        case _:
            assert_never(spec.optimizer)
