"""The device of a worker: which one, how much of its memory, and what its running out looks like."""

import torch

from search.errors import InputError

# What a process may take of a card beside torch's own allocator, for the CUDA context and the kernels that it loads: an
# allowance, for no process can measure its own while others share the card.
CONTEXT = 768 * 2**20  # bytes
_EXHAUSTED = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",  # Windows and macOS
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)
_BROKEN = ("CUDA error", "CUDA driver error", "CUBLAS_STATUS_", "CUDNN_STATUS_", "cuDNN error", "NCCL error")


def of_worker(gpus: float) -> torch.device:
    """The device of a worker to which Ray has given `gpus`: a share of one, whose memory it then keeps to, or a number.

    Raises:
        InputError: torch does not see a GPU that Ray has given.
    """
    if not gpus:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InputError(
            f"resources.gpus_per_trial = {gpus:g}, but torch {torch.__version__} sees no GPU in this worker; "
            "install a torch for this GPU and its driver, or set resources.gpus_per_trial=0"
        )
    where = torch.device("cuda", torch.cuda.current_device())
    if gpus < 1:
        card = torch.cuda.get_device_properties(where).total_memory
        torch.cuda.memory.set_per_process_memory_fraction(memory_fraction(gpus, card), where)
    return where


def memory_fraction(share: float, card_bytes: int) -> float:
    """The part of a card's memory that torch's allocator may take in a process that has `share` of the card."""
    return max(0.0, share - CONTEXT / card_bytes)


def broken(error: BaseException) -> bool:
    """Whether the device has failed this process, so that nothing more can be computed in it."""
    if isinstance(error, torch.AcceleratorError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _BROKEN)


def out_of_memory(error: BaseException) -> bool:
    """Whether this is memory running out, of the device or of the machine."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # On the CPU, and in CUDA's own libraries, torch has no type of its own for it.
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _EXHAUSTED)
