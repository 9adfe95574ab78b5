"""One training step as a function of tensors on the device alone, so that it can be captured once and replayed."""
# torch's own annotations are partial:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as ops

from search.augment import Batch, Draws, batch, shape
from search.average import Average
from search.batches import Resident
from search.precision import autocast
from search.spec import TrainSpec
from search.streamed import stream


class Step:
    """Augment, forward, backward, optimiser, learning rate, averages and metrics; the host only says how often.

    Each call does the next step of the epoch that `begin` has laid out, after `feed`. Nothing in it reads a value back.

    Args:
        model: on the device of `split`, in training mode while it is called.
        spec: the training.
        split: the training split.
        forward: what computes the logits, such as the compiled model; default: the model.
    """

    def __init__(
        self, model: nn.Module, spec: TrainSpec, split: Resident, forward: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        device = split.device
        self.model, self.spec, self.split = model, spec, split
        self.optimiser = _sgd(model, spec, device)
        self.average = Average(model, spec.ema) if spec.ema else None
        self.steps, self.size = shape(len(split), spec.batch_size)
        self._forward = model if forward is None else forward
        self._position = torch.zeros(1, dtype=torch.int64, device=device)
        self._loss = torch.zeros((), dtype=torch.float64, device=device)
        self._wrong = torch.zeros((), dtype=torch.float64, device=device)
        self._rows: Draws = {}
        held = self.size if split.streamed else 0
        self._images = torch.empty(held, *split.images.shape[1:], dtype=torch.uint8, device=device)
        self._incoming: Iterator[Tensor] = iter(())

    def begin(self, draws: Draws, rates: list[float]) -> None:
        """Lays out an epoch: what `augment.draw` gave, and the learning rate of each step."""
        rows = draws | {"rate": torch.tensor(rates)}
        for name, values in rows.items():
            # Always the same memory: a captured step knows addresses, not names.
            self._rows.setdefault(name, torch.empty_like(values, device=self._position.device)).copy_(values)
        if self.split.streamed:
            self._incoming = stream(self.split.images, draws["order"], self._position.device)
        for counter in (self._position, self._loss, self._wrong):
            counter.zero_()

    def feed(self) -> None:
        """Before each step: what it needs from the host, which is nothing where the images are on the device."""
        if self.split.streamed:
            self._images.copy_(next(self._incoming))

    def __call__(self) -> None:
        row = {name: rows.index_select(0, self._position)[0] for name, rows in self._rows.items()}
        self.optimiser.param_groups[0]["lr"].copy_(row["rate"])
        made = batch(self.split, self.spec, row, self._images if self.split.streamed else None)
        with autocast(made.images.device):
            logits = self._forward(made.images).float()
        loss = self._criterion(logits, made)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        if self.average:
            self.average.update()
        self._loss += loss.detach() * len(made.labels)
        self._wrong += _wrong(logits.detach().argmax(1), made)
        self._position += 1

    def read(self) -> tuple[float, float]:
        """Mean loss (nats) and error (percent) of the steps since `begin`: the one wait for the device an epoch.

        With mixup a wrong answer counts by the share of the label that it misses.
        """
        seen = int(self._position.item()) * self.size
        return self._loss.item() / seen, 100 * self._wrong.item() / seen

    def _criterion(self, logits: Tensor, made: Batch) -> Tensor:
        return _shared(
            lambda labels: ops.cross_entropy(logits, labels, label_smoothing=self.spec.label_smoothing), made
        )


def _wrong(answers: Tensor, made: Batch) -> Tensor:
    return _shared(lambda labels: (answers != labels).sum(), made)


def _shared(measure: Callable[[Tensor], Tensor], made: Batch) -> Tensor:
    """What is measured against the labels; with mixup against both, each by its share."""
    if made.mixed is None:
        return measure(made.labels)
    others, share = made.mixed
    return share * measure(made.labels) + (1 - share) * measure(others)


def _sgd(model: nn.Module, spec: TrainSpec, device: torch.device) -> torch.optim.SGD:
    return torch.optim.SGD(
        model.parameters(),
        lr=torch.tensor(spec.lr, dtype=torch.float32, device=device),  # a tensor, so that a captured step can move it
        momentum=spec.momentum,
        weight_decay=spec.weight_decay,
        nesterov=spec.nesterov and spec.momentum > 0,
        fused=True,
    )
