"""What the machine itself can do: a large product of matrices, a large copy; and the floor under a training step."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from resnet.costs import Cost

PASSES = 5  # over a kept map: written, read by the next layer, read again backward; its gradient written and read
SGEMM_SIDE = 2048


def sgemm(side: int = SGEMM_SIDE) -> float:
    """FLOP/s of a float32 product of square matrices on this process's threads; the better of two."""
    a, b = torch.rand(side, side), torch.rand(side, side)
    out = torch.empty(side, side)
    return 2 * side**3 / min(_seconds(lambda: torch.mm(a, b, out=out)) for _ in range(2))


def bf16_matmul(side: int = 8192) -> float:
    """FLOP/s of a bfloat16 product of square matrices on the GPU; the best of ten."""
    a, b = (torch.rand(side, side, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    out = torch.empty_like(a)
    return 2 * side**3 / min(_cuda_seconds(lambda: torch.mm(a, b, out=out)) for _ in range(10))


def copy(size: int = 2**30) -> float:
    """Bytes/s, read and written, of a copy of `size` bytes within the GPU's memory; the best of ten."""
    source = torch.zeros(size, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * size / min(_cuda_seconds(lambda: target.copy_(source)) for _ in range(10))


def training_flops(cost: Cost) -> int:
    """Operations of one image in training: two a multiply-accumulate, forward once and backward twice."""
    return 6 * cost.macs


def floor_seconds(cost: Cost, images: int, flops: float, bandwidth: float) -> tuple[float, str]:
    """The least time of a training step in bfloat16, and whether "arithmetic" or "memory" sets it.

    A lower bound: every product at the rate of a large one; of the traffic only the maps that the backward pass needs,
    each as few times as layers without fusion across them allow.

    Args:
        cost: of one image, its activations in float32.
        images: of the step.
        flops: FLOP/s of a large product.
        bandwidth: bytes/s of a large copy, read and written.
    """
    arithmetic = images * training_flops(cost) / flops
    memory = images * PASSES * cost.activation_bytes / 2 / bandwidth
    return max((arithmetic, "arithmetic"), (memory, "memory"))


class Traffic(TorchDispatchMode):
    """Counts the bytes that torch's operations in the block read and write on one kind of device, operation by
    operation: each of its tensors once. Views move nothing.
    """

    def __init__(self, device: str) -> None:
        super().__init__()
        self.bytes, self._device = 0, device

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        if not (func.is_view or "empty" in func.__name__):
            used = [each for each in tree_leaves((args, kwargs, found)) if isinstance(each, Tensor)]
            self.bytes += sum(each.nbytes for each in used if each.device.type == self._device)
        return found


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _cuda_seconds(work: Callable[[], object]) -> float:
    began, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    began.record()
    work()
    ended.record()
    ended.synchronize()
    return began.elapsed_time(ended) / 1000
