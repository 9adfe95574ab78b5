"""What a trial takes of its GPU, read once an epoch, after the host has waited for the device anyway."""

import torch


def begin(device: torch.device) -> None:
    """A trial starts: the most that the one before it took is forgotten."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def read(device: torch.device) -> dict[str, float]:
    """MLflow's system metrics of an epoch that has just ended; none on the CPU.

    `system/gpu_memory_MiB` is the most that this trial's tensors have taken so far. `system/gpu_utilisation_percent` is
    how much of NVML's last sample, a sixth of a second to a second, the card was busy, with whatever ran on it; it is
    there where NVML is (package nvidia-ml-py) and the card tells.
    """
    if device.type != "cuda":
        return {}
    utilisation = _utilisation(device)
    measured = {} if utilisation is None else {"system/gpu_utilisation_percent": utilisation}
    return {"system/gpu_memory_MiB": torch.cuda.max_memory_allocated(device) / 2**20, **measured}


def _utilisation(device: torch.device) -> float | None:
    try:
        from pynvml import NVMLError  # pyright: ignore[reportMissingImports] - may be missing
    except ModuleNotFoundError:
        return None
    try:
        return float(torch.cuda.utilization(device))
    except NVMLError:  # a slice of a card (MIG) has none, nor has a container without the driver's library for it
        return None
