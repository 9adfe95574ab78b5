"""The device of a worker: which cores or card, in which precision, how much memory, and how busy it is."""

import ctypes
import fcntl
import os
from pathlib import Path

import torch

from search.errors import InputError
from search.machine import CPUINFO, of_processor
from search.storage import scratch

# Bytes for the CUDA context and the kernels that a process loads: it cannot measure them while others share the card.
CONTEXT = 768 * 2**20
_EXHAUSTED = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",  # Windows and macOS
    "std::bad_alloc",
    "could not create a memory object",  # oneDNN, as is the next: it says no more where memory for one runs out
    "could not create a primitive",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)
_BROKEN = ("CUDA error", "CUDA driver error", "CUBLAS_STATUS_", "CUDNN_STATUS_", "cuDNN error", "NCCL error")


def of_worker(gpus: float) -> torch.device:
    """The device of a worker to which Ray has given `gpus`: a share of one, whose memory it then keeps to, or a number.

    Raises InputError where torch does not see the GPU.
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


def free_memory(where: torch.device) -> int:
    """Bytes of a GPU that this process may still take: no more than are free, nor than are left of its share."""
    free, total = torch.cuda.mem_get_info(where)
    share = torch.cuda.memory.get_per_process_memory_fraction(where) * total
    return min(free, int(share) - torch.cuda.memory_reserved(where))


def broken(error: BaseException) -> bool:
    """Whether the device has failed this process, so that nothing more can be computed in it."""
    told = isinstance(error, RuntimeError) and any(text in str(error) for text in _BROKEN)
    return told or isinstance(error, torch.AcceleratorError)


def out_of_memory(error: BaseException) -> bool:
    """Whether this is memory running out, of the device or of the machine."""
    # On the CPU, and in CUDA's own libraries, torch has no type of its own for it.
    told = isinstance(error, RuntimeError) and any(text in str(error) for text in _EXHAUSTED)
    return told or isinstance(error, torch.OutOfMemoryError | MemoryError)


# Parameters of glibc's mallopt (malloc.h). Buffers up to 32 MiB, the most that it allows, are kept; the heap shrinks
# once so many bytes lie free: the largest C int. Threads share one heap: what training has freed serves the writer of
# checkpoints, too.
MMAP_THRESHOLD, KEPT_BUFFER = -3, 32 * 2**20
TRIM_THRESHOLD, NEVER = -1, 2**31 - 1
HEAPS, ONE = -8, 1


def pin(threads: int) -> frozenset[int]:
    """Pins the calling thread, and all that it starts from now on, to `threads` cores that no other worker has claimed.

    Returns these cores. All workers of one user on this machine share the claims, whichever study they belong to; the
    system gives a claim back when its process ends. The worker stays unpinned, only slower, where too few cores are
    left, where the platform has no affinity (macOS) and where the folder of the claims cannot be trusted.
    """
    folder = scratch.home()
    if folder is None or not hasattr(os, "sched_setaffinity"):
        return frozenset()
    allowed = sorted(os.sched_getaffinity(0))
    # Fixed groups, and not any free cores: two workers that claim at once would each take a part and both fail.
    for start in range(0, len(allowed) - threads + 1, threads):
        cores = allowed[start : start + threads]
        if _lock([folder / f"core-{core}.lock" for core in cores]):
            os.sched_setaffinity(0, cores)
            return frozenset(cores)
    return frozenset()


def keep_freed_memory() -> bool:
    """Makes the C library keep what is freed, for the next buffer of its size; False without glibc.

    Otherwise every step of training has the system clear the pages of its activations again. The price: between two
    networks the process keeps as much as the larger one needed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is None:
        return False
    settings = {MMAP_THRESHOLD: KEPT_BUFFER, TRIM_THRESHOLD: NEVER, HEAPS: ONE}
    return all(mallopt(parameter, value) for parameter, value in settings.items())


def _lock(paths: list[Path]) -> bool:
    """Locks all of these files for the life of the process, or none."""
    files: list[int] = []
    try:
        for path in paths:
            files.append(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            fcntl.flock(files[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # taken (EWOULDBLOCK), or a file system without locks
        for file in files:
            os.close(file)
        return False
    return True  # the files stay open, and the locks with them


_MATRIX_BF16 = frozenset({"amx_bf16", "avx512_bf16"})


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 for what can be computed in it where the device has units for it, float32 elsewhere."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=has_bf16(device))


def has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 products are faster than float32 ones on `device`.

    torch says yes for every processor, also where it emulates them and takes three times as long; so the processor's
    own flags decide.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = (of_processor("flags", CPUINFO) or "").split()
    return device.type == "cpu" and not _MATRIX_BF16.isdisjoint(flags)


def system_metrics(device: torch.device) -> dict[str, float]:
    """MLflow's system metrics of an epoch that has just ended; none on the CPU.

    `system/gpu_memory_MiB` is the most that this trial's tensors have taken so far. `system/gpu_utilisation_percent` is
    how much of NVML's last sample, a sixth of a second to a second, the card was busy, with whatever ran on it; it is
    there where NVML is (package nvidia-ml-py) and the card tells.
    """
    if device.type != "cuda":
        return {}
    memory = {"system/gpu_memory_MiB": torch.cuda.max_memory_allocated(device) / 2**20}
    try:
        from pynvml import NVMLError  # noqa: PLC0415  # pyright: ignore[reportMissingImports] - may be missing
    except ModuleNotFoundError:
        return memory
    try:
        return memory | {"system/gpu_utilisation_percent": float(torch.cuda.utilization(device))}
    except NVMLError:  # a slice of a card (MIG) has none, nor has a container without the driver's library for it
        return memory
