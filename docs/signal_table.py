"""The direct path and the measured gradient beside the papers' errors: `python docs/signal_table.py`.

Prints the Markdown table of docs/signal.md. Images are drawn from a standard normal distribution, or taken from a
data set with `--data cifar10`.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from resnet import NetSpec, shortcut_gain, signal
from search.data import prepare
from search.machine import hardware
from search.spec import DataSpec

PAPERS = json.loads((Path(__file__).parents[1] / "tests" / "support" / "papers.json").read_text())


def networks() -> Iterator[tuple[str, NetSpec, str]]:
    """(name, specification, published error) of the plain nets and of Tables 1 and 2 of 1603.05027, depth 110."""
    for depth in (20, 32, 44, 56, 110):  # 1512.03385, Fig. 6, which gives curves and the bound
        yield f"plain, depth {depth}", NetSpec(depth=depth, shortcut="none"), "> 60 %" if depth == 110 else "trains"
    for row in PAPERS["v2_table1_shortcuts"]:
        error = "fail" if row["fail"] else f"{row['error_pct']} %"
        if row["case"] == "constant_scaling":
            scales = {"shortcut_scale": row["on_shortcut"], "residual_scale": row["on_F"]}
            name = f"scaling {row['on_shortcut']}, F {row['on_F']}"
            yield name, NetSpec(depth=110, shortcut="constant_scaling", **scales), error
            continue
        shortcut = PAPERS["our_shortcuts"][row["case"]]
        for bias in row.get("bias_init", [None]):
            given = {} if bias is None else {"gate_bias": bias}
            name = shortcut.replace("_", " ") + ("" if bias is None else f", b = {bias}")
            yield name, NetSpec(depth=110, shortcut=shortcut, **given), error
    for row in PAPERS["v2_table2_activation"]:
        if row["case"] != "original":
            version = PAPERS["our_orders"][row["case"]]
            yield f"identity, `{version}`", NetSpec(depth=110, version=version), f"{row['resnet110']} %"


def batch(data: str | None, images: int, seed: int) -> Tensor:
    """(images, 3, 32, 32), each channel of mean 0 and deviation 1."""
    chance = torch.Generator().manual_seed(seed)
    if data is None:
        return torch.randn(images, 3, 32, 32, generator=chance)
    split = prepare(DataSpec(name=data)).train()
    chosen = torch.randperm(len(split), generator=chance)[:images]
    pixels = torch.from_numpy(split.images[chosen.numpy()]).permute(0, 3, 1, 2).float()
    return (pixels - pixels.mean((0, 2, 3), keepdim=True)) / pixels.std((0, 2, 3), keepdim=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="a data set of colour images instead of noise")
    parser.add_argument("--images", type=int, default=16, help="in a batch")
    parser.add_argument("--seeds", type=int, default=3, help="networks drawn for each row, from seed 0 on")
    args = parser.parse_args()
    batches = [batch(args.data, args.images, seed) for seed in range(args.seeds)]
    print(f"{hardware()}; torch {torch.__version__}, CPU, float32; {args.images} images of {args.data or 'noise'}")
    print(f"median (least to most) of {args.seeds} seeds\n")
    print("| network | direct path | scale, last / first | gradient, first / last | reaches | published error |")
    print("|---|---|---|---|---|---|")
    for name, spec, error in networks():
        measured = [signal(spec, images, seed=seed) for seed, images in enumerate(batches)]
        gain, ratios = shortcut_gain(spec), [s.gradient_ratio for s in measured]
        direct = "none known" if gain is None else f"{gain:.2g}"
        growth = median(s.rms[-1] / s.rms[0] for s in measured)
        gradient = f"{median(ratios):.2g} ({min(ratios):.2g} to {max(ratios):.2g})"
        verdicts = sorted({s.reaches_first_unit for s in measured})
        reaches = " or ".join("yes" if v else "no" for v in verdicts)
        print(f"| {name} | {direct} | {growth:.2g} | {gradient} | {reaches} | {error} |", flush=True)


if __name__ == "__main__":
    main()
