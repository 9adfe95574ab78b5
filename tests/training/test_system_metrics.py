import sys

import pytest
import torch

from resnet import NetSpec
from search.spec import TrainSpec, TrialSpec
from search.training import device, train
from search.training.device import reset_peak, system_metrics
from tests.support.sample_digits import resident

CPU = torch.device("cpu")


def test_a_trial_on_the_cpu_has_none() -> None:
    net = NetSpec(depth=8, in_channels=1)
    (epoch,) = train(TrialSpec(net=net, train=TrainSpec(epochs=1, batch_size=32)), resident(0, 64), resident(64, 96))
    assert {name.partition("/")[0] for name in epoch.metrics} == {"train", "val", "cost"}


def test_without_nvml_there_is_no_utilisation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # how Python marks what cannot be imported
    assert device._utilisation(torch.device("cuda", 0)) is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_the_most_that_a_trial_took() -> None:
    device = torch.device("cuda", 0)
    before = torch.empty(64 * 2**20, dtype=torch.uint8, device=device)
    del before
    reset_peak(device)
    kept = torch.cuda.memory_allocated(device) / 2**20
    taken = torch.empty(32 * 2**20, dtype=torch.uint8, device=device)
    del taken
    metrics = system_metrics(device)
    assert metrics["system/gpu_memory_MiB"] == pytest.approx(kept + 32, abs=0.01)
    assert 0 <= metrics.get("system/gpu_utilisation_percent", 0) <= 100
