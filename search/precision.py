"""In which numbers a device computes fastest without emulating them."""

from collections.abc import Set
from pathlib import Path

import torch

from search.versions import CPUINFO, of_processor

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
    return device.type == "cpu" and bool(cpu_flags(CPUINFO) & _MATRIX_BF16)


def cpu_flags(cpuinfo: Path) -> Set[str]:
    """The flags of the first processor in a file like Linux' /proc/cpuinfo; none where there is no such file."""
    return frozenset((of_processor("flags", cpuinfo) or "").split())
