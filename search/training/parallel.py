"""Data-parallel training: processes of one machine train one network, each on its part of every batch.

Batch statistics, losses and gradients are those of the whole batch, as if one process had trained on it; only the
rounding of their sums differs, and what torch's generator draws inside the network (dropout, stochastic depth).
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as processes
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as ops

from search.training.augment import Batch

PATIENCE = timedelta(minutes=10)  # for another process: it may be reading its data, or evaluating


@dataclass(frozen=True)
class Group:
    """This process among the `size` that train a network together: the one of number `rank`."""

    rank: int
    size: int

    @classmethod
    @contextmanager
    def joined(cls, meeting: Path, rank: int, size: int, device: torch.device) -> Iterator["Group"]:
        """While it is entered, the processes are connected, by the loopback interface or their GPUs' own links.

        Args:
            meeting: a file that none of them has used before, where they find each other.
            rank, size: see `Group`.
            device: of this process.

        Raises:
            RuntimeError: another process has left, or does not answer for `PATIENCE`; the methods too.
        """
        os.environ.update(GLOO_SOCKET_IFNAME="lo", NCCL_SOCKET_IFNAME="lo")
        backend, own = ("nccl", device) if device.type == "cuda" else ("gloo", None)
        where = f"file://{meeting}"
        processes.init_process_group(backend, where, PATIENCE, world_size=size, rank=rank, device_id=own)
        try:
            yield cls(rank, size)
        finally:
            processes.destroy_process_group()

    @staticmethod
    def has_lost_another(error: BaseException) -> bool:
        """Whether this process failed because another one had left before."""
        return isinstance(error, processes.DistError) or "gloo" in str(error)

    def check(self, images: int) -> None:
        """Raises ValueError where a batch of so many has none for some process."""
        if images < self.size:
            raise ValueError(f"{self.size} GPUs cannot share batches of {images}; set resources.gpus_per_trial lower")

    def part(self, batch: Batch) -> Tensor:
        """The images that are for this process."""
        return batch.images.tensor_split(self.size)[self.rank]

    def whole(self, own: Float[Tensor, "part k"], rows: int) -> Float[Tensor, "rows k"]:
        """The logits of the whole batch, from the `own` of each process; only those of this process have a gradient."""
        before = sum(len(part) for part in torch.empty(rows, 0).tensor_split(self.size)[: self.rank])
        padded = ops.pad(own, (0, 0, before, rows - before - len(own)))
        everyone = padded.detach().clone()
        processes.all_reduce(everyone)
        return everyone + (padded - padded.detach())

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Makes each of these tensors, of one type, the sum of what the processes have in it."""
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        processes.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def slice(self, images: int) -> slice:
        """Which of so many images this process evaluates."""
        return slice(self.rank * images // self.size, (self.rank + 1) * images // self.size)

    def normalise_together(self, model: nn.Module) -> None:
        """Lets batch normalisation take its statistics over the processes. The network's state stays the same."""
        for module in model.modules():
            if type(module) is nn.BatchNorm2d:
                module.__class__ = SharedBatchNorm


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation by the mean and variance of all processes' images. In evaluation as `nn.BatchNorm2d`.

    As `nn.SyncBatchNorm`, which is for GPUs alone.
    """

    def forward(self, input: Tensor) -> Tensor:
        mean_, variance_, momentum = self.running_mean, self.running_var, self.momentum
        if not self.training or mean_ is None or variance_ is None or momentum is None:
            return super().forward(input)
        output, mean, variance, count = _Normalise.apply(input, self.weight, self.bias, self.eps)
        with torch.no_grad():
            mean_.lerp_(mean.to(mean_), momentum)
            variance_.lerp_((variance * (count / (count - 1))).to(variance_), momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked += 1
        return output


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) * weight + bias, with what the processes have in common in both directions."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, ...]:
        number = x.numel() // x.shape[1]
        # The statistics of torch's own normalisation, whose output is dropped: many times faster than `var_mean`.
        _, mean, inverse = torch.native_batch_norm(x, weight, bias, None, None, True, 0.0, eps)
        kind = mean.dtype
        # In float64, for the mean of squares loses the digits that the squared mean has before the variance begins.
        mean, variance = mean.double(), inverse.double().square().reciprocal() - eps
        moments = number * torch.stack([torch.ones_like(mean), mean, variance + mean.square()])
        processes.all_reduce(moments)
        count, total, squares = moments
        common = total / count
        variance = (squares / count - common.square()).clamp(min=0).to(kind)
        common, count = common.to(kind), count[:1].to(kind)
        output = ops.batch_norm(x, common, variance, weight, bias, training=False, eps=eps)
        ctx.save_for_backward(x, weight, common, variance, count)
        ctx.eps = eps
        ctx.mark_non_differentiable(common, variance, count)
        return output, common, variance, count

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance, count = ctx.saved_tensors
        direct, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradients[0], x, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        everyone = torch.cat([of_weight, of_bias]).to(mean)
        processes.all_reduce(everyone)
        slope, level = everyone.chunk(2)
        inverse = (variance + ctx.eps).rsqrt()
        # What the mean and the variance move: weight / s / n (sum dy + x^ sum dy x^), with x^ = (x - mean) / s.
        scale = weight * inverse * inverse * slope / count
        shift = weight * inverse * level / count - mean * scale
        moved = torch.addcmul(shift.view(1, -1, 1, 1), x, scale.view(1, -1, 1, 1))
        return direct - moved.to(direct), of_weight, of_bias, None
