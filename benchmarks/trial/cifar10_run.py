"""ResNet-20 on CIFAR-10 with a shortened one-cycle: `python -m benchmarks.trial.cifar10_run --loop ours|reference`.

One training over all threads. Prints the metrics of each epoch as a line of JSON, at last the test error, read once. It
takes about 40 minutes on two cores, the reference loop 80.
"""

import argparse
import json
import time
from collections.abc import Iterator

import torch

from benchmarks.trial import reference_loop
from resnet import NetSpec, Version
from search.data import Prepared, prepare
from search.spec import DataSpec, Schedule, TrainSpec, TrialSpec
from search.training import Resident, train
from search.training.loop import evaluate


def of_the_papers(epochs: int) -> TrialSpec:
    """ResNet-20 as arXiv:1512.03385, section 4.2 trains it: 164 epochs there, on training and validation split."""
    recipe = TrainSpec(
        epochs=epochs, schedule=Schedule.STEPS, nesterov=False, batch_size=128, lr=0.1, weight_decay=1e-4
    )
    return TrialSpec(net=NetSpec(depth=20, version=Version.V1), train=recipe)


def ours(spec: TrialSpec, prepared: Prepared, whole: bool = False) -> Iterator[dict[str, float]]:
    """Our loop, with the same metrics as the reference loop; `whole`: the validation split is trained on too."""
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    scale = prepared.info.mean, prepared.info.std
    splits = [prepared.whole()] if whole else [prepared.train(), prepared.validation()]
    training, *rest = (Resident.load(split, *scale, device) for split in splits)
    validation = rest[0] if rest else None
    for epoch in train(spec, training, validation):
        yield {"epoch": epoch.number, **epoch.metrics}
        if epoch.number == spec.train.epochs:
            tested = evaluate(epoch.model, Resident.load(prepared.test(), *scale, device)).metrics
            yield {f"test/{name}": tested[name] for name in ("loss", "error")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loop", choices=["ours", "reference"], required=True)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--lr", type=float, default=0.4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--workers", type=int, default=2, help="of the reference loop's DataLoader")
    parser.add_argument("--data-dir", help="where cifar10.npz or torchvision's files are")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    prepared = prepare(DataSpec(name="cifar10", dir=args.data_dir))
    recipe = TrainSpec(
        epochs=args.epochs, lr=args.lr, weight_decay=5e-4, schedule=Schedule.ONE_CYCLE, seed=args.seed, batch_size=128
    )
    spec = TrialSpec(net=NetSpec(depth=20, version=Version.V1), train=recipe)
    began = time.perf_counter()
    epochs = ours(spec, prepared) if args.loop == "ours" else reference_loop.train(spec, prepared, args.workers)
    for metrics in epochs:
        print(
            json.dumps(
                {k: round(v, 4) for k, v in metrics.items()} | {"elapsed": round(time.perf_counter() - began, 1)}
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
