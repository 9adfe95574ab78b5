"""Learning curves that cost nothing to train: LCBench's surrogate (see README.md)."""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from optuna.distributions import FloatDistribution, IntDistribution

MODEL = Path(__file__).parent / "model.onnx"
EPOCHS = 52
AHEAD = 9  # epochs that are predicted at once
SPACE: Mapping[str, FloatDistribution | IntDistribution] = {  # ranges of LCBench, in the order of the model's inputs
    "batch_size": IntDistribution(16, 512, log=True),
    "learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
    "momentum": FloatDistribution(0.1, 0.99),
    "weight_decay": FloatDistribution(1e-5, 1e-1),
    "num_layers": IntDistribution(1, 5),
    "max_units": IntDistribution(64, 1024, log=True),
    "max_dropout": FloatDistribution(0.0, 1.0),
}
_CODES = (  # OpenML tasks in the order of the model's inputs 1, 2, ...
    *(126025, 126026, 126029, 146212, 167083, 167104, 167149, 167152, 167161, 167168, 167181, 167184, 167185, 167190),
    *(167200, 167201, 168329, 168330, 168331, 168335, 168868, 168908, 168910, 189354, 189862, 189865, 189866, 189873),
    *(189905, 189906, 189908, 189909, 34539, 3945, 7593),
)
_WITHOUT_DATA = 167083  # has an input, but YAHPO Gym does not list it
TASKS = tuple(sorted(code for code in _CODES if code != _WITHOUT_DATA))


@cache
def _session() -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(MODEL), options)


def predict(task: int, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
    """Errors in percent, for rows of (epoch, hyperparameters in SPACE's order)."""
    codes = np.full((len(inputs), 1), 1 + _CODES.index(task), np.int32)
    return 100 - np.asarray(_session().run(None, {"x_cat": codes, "x_cont": inputs})[0], np.float64)[:, 1]


def final(task: int, configurations: NDArray[np.float32]) -> NDArray[np.float64]:
    """Errors of whole trainings, percent; rows of hyperparameters in SPACE's order."""
    return predict(task, np.hstack([np.full((len(configurations), 1), EPOCHS, np.float32), configurations]))


def train(task: int, configuration: Mapping[str, Any]) -> Iterator[float]:
    """The errors of one configuration, percent, epoch by epoch."""
    row = [float(configuration[name]) for name in SPACE]
    for first in range(1, EPOCHS + 1, AHEAD):
        epochs = range(first, min(first + AHEAD, EPOCHS + 1))
        yield from predict(task, np.array([[epoch, *row] for epoch in epochs], np.float32)).tolist()


def random_configurations(count: int, seed: int) -> NDArray[np.float32]:
    """Rows of hyperparameters drawn from SPACE."""
    draw = np.random.default_rng(seed)
    columns = []
    for distribution in SPACE.values():
        low, high = float(distribution.low), float(distribution.high)
        values = (
            np.exp(draw.uniform(np.log(low), np.log(high), count))
            if distribution.log
            else draw.uniform(low, high, count)
        )
        columns.append(values.round() if isinstance(distribution, IntDistribution) else values)
    return np.stack(columns, axis=1).astype(np.float32)
