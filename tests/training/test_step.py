"""What one step promises to a CUDA graph, and what is asked of the device."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from resnet import NetSpec, build
from search.spec import TrainSpec
from search.training.augment import draw
from search.training.device import has_bf16, system_metrics
from search.training.step import Lean, Step
from search.training.trivial_augment import at_once
from tests.support.sample_digits import resident

ALL = {"crop_padding": 1, "cutout": 2, "mixup": 0.5, "ema": 0.5, "label_smoothing": 0.1}
WHOLE = {"trivial_augment": True, "random_erasing": 0.5, "mixup": 0.2, "cutmix": 1.0, "loss": "bce"}


class NothingReadBack(TorchDispatchMode):
    """Raises when the host asks for a value of a tensor, or for a shape that depends on values."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        aten = torch.ops.aten
        assert func.overloadpacket not in (aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal), func
        if func.overloadpacket is aten.index:
            assert not any(index is not None and index.dtype == torch.bool for index in args[1]), "index by a mask"
        return func(*args, **(kwargs or {}))


def make(**fields: Any) -> Step:
    torch.manual_seed(0)
    net = build(NetSpec(depth=8, in_channels=1)).to(memory_format=torch.channels_last)
    return Step(net, TrainSpec(**({"batch_size": 16, "lr": 0.05} | fields)), resident(0, 70))


def begin(step: Step, seed: int) -> None:
    step.begin(draw(step.spec, 70, (8, 8), seed), [0.05] * step.steps)


LAYERS = {"optimizer": "adamw", "layer_decay": 0.5, "start": "w.safetensors", "freeze_epochs": 1}


@pytest.mark.parametrize(
    "fields", [{}, {"momentum": 0.0, "flip": False, "crop_padding": 0}, {"crop": "resized"}, ALL, WHOLE, LAYERS]
)
def test_a_step_waits_for_no_value(fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.training.augment.trivial_augment", at_once)  # as on a GPU
    with pytest.raises(AssertionError, match="_local_scalar_dense"), NothingReadBack():
        torch.ones(1).item()
    step = make(**fields)
    begin(step, 1)
    with NothingReadBack():
        for _ in range(step.steps):
            step()


@pytest.mark.parametrize("fields", [ALL, WHOLE])
def test_epochs_are_laid_out_in_the_same_memory(fields: dict[str, Any]) -> None:
    """As a captured step reads and writes addresses."""
    step = make(**fields)
    begin(step, 1)
    tensors = [step._rows, step._position, step._loss, step._wrong, *step.model.state_dict().values()]
    tensors.append(step.optimiser.rates)
    for _ in range(step.steps):
        step()
    momentum = [*step.optimiser.state().values()]
    tensors += momentum
    places = [tensor.data_ptr() for tensor in tensors]
    begin(step, 2)
    for _ in range(step.steps):
        step()
    assert step.optimiser.rates is tensors[-len(momentum) - 1]
    assert [tensor.data_ptr() for tensor in tensors] == places
    assert all(one is other for one, other in zip(step.optimiser.state().values(), momentum, strict=True))


REGULARISED = {"ema": 0.5, "mixup": 0.2, "weight_decay": 5e-4}


@pytest.mark.parametrize(
    ("net", "fields", "frozen"),
    [
        ({}, {}, False),
        ({"version": "v2"}, REGULARISED, False),
        ({"depth": 11, "unit": "bottleneck"}, REGULARISED | {"momentum": 0.0}, False),
        ({"shortcut": "exclusive_gate", "version": "relu_only_preact"}, {}, False),
        ({"shortcut": "dropout"}, {"ema": 0.5}, False),
        ({"family": "article", "depth": 6, "image_size": 8}, {"optimizer": "adamw", "layer_decay": 0.5}, False),
        ({"depth": 5, "unit": "single", "shortcut": "conv1x1"}, {}, False),
        ({}, {"start": "w.safetensors", "freeze_epochs": 1}, True),
    ],
)
def test_a_network_under_autocast_gives_the_bits_of_its_own_modules(
    net: dict[str, Any], fields: dict[str, Any], frozen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As torch computes them module by module, casting each weight when it is used."""
    monkeypatch.setattr("search.training.device.has_bf16", lambda device: True)
    states = []
    for own in (False, True):
        torch.manual_seed(0)
        model = build(NetSpec(**({"depth": 8, "in_channels": 1} | net))).to(memory_format=torch.channels_last)
        spec = TrainSpec(**({"batch_size": 16, "lr": 0.05} | fields))
        step = Step(model, spec, resident(0, 70), model if own else Lean(model))
        step.freeze(frozen)
        for epoch in (1, 2):
            begin(step, epoch)
            torch.manual_seed(epoch)
            for _ in range(step.steps):
                step()
        average = step.average.model.state_dict() if step.average else {}
        states.append([model.state_dict(), step.optimiser.state(), average, dict(enumerate(step.read()))])
    for lean, torchs in zip(*states, strict=True):
        assert lean.keys() == torchs.keys()
        assert [
            name for name in lean if not torch.equal(torch.as_tensor(lean[name]), torch.as_tensor(torchs[name]))
        ] == []
    counts = {int(count) for name, count in states[0][0].items() if name.endswith("num_batches_tracked")}
    assert counts == ({0} if frozen else {8})


def test_each_call_is_the_next_row() -> None:
    """The second epoch's first step has the rates and images of that epoch: with rate 0 nothing moves."""
    step = make()
    begin(step, 1)
    for _ in range(step.steps):
        step()
    before = {name: tensor.clone() for name, tensor in step.model.named_parameters()}
    step.begin(draw(step.spec, 70, (8, 8), 2), [0.0, 0.0, 0.05, 0.0])
    moved = []
    for _ in range(4):
        step()
        moved.append(any(not torch.equal(tensor, before[name]) for name, tensor in step.model.named_parameters()))
    assert moved == [False, False, True, True]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu avx2 avx512f avx512_bf16 fma", True),
        ("fpu avx2 avx512f amx_bf16 amx_tile amx_int8", True),
        ("fpu avx2 avx512f avx512_vnni avx512_fp16 amx_tile", False),
        (None, False),
    ],
)
def test_bf16_on_a_cpu_by_its_flags(
    flags: str | None, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By those of the first; none where there is no such file."""
    cpuinfo = tmp_path / "cpuinfo"
    if flags:
        cpuinfo.write_text(f"processor\t: 0\nmodel name\t: a processor\nflags\t\t: {flags}\n\nprocessor\t: 1\n")
    monkeypatch.setattr("search.training.device.CPUINFO", cpuinfo)
    assert has_bf16(torch.device("cpu")) is expected


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_the_most_that_a_trial_took_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cuda", 0)
    torch.cuda.reset_peak_memory_stats(device)
    kept = torch.cuda.memory_allocated(device) / 2**20
    taken = torch.empty(32 * 2**20, dtype=torch.uint8, device=device)
    del taken
    metrics = system_metrics(device)
    assert metrics["system/gpu_memory_MiB"] == pytest.approx(kept + 32, abs=0.01)
    assert 0 <= metrics.get("system/gpu_utilisation_percent", 0) <= 100
    monkeypatch.setitem(sys.modules, "pynvml", None)  # how Python marks what cannot be imported
    assert system_metrics(device).keys() == {"system/gpu_memory_MiB"}
