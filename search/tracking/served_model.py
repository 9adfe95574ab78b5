"""The code that MLflow keeps with a champion and runs where it is served: ONNX Runtime and NumPy, nothing of ours.

It is executed as a script, wherever the model is loaded; nothing imports it.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext


class Champion(PythonModel):
    """Images uint8 (n, H, W, C) -> a row for each: `label`, its `probability`, and all `probabilities` by class."""

    _skip_type_hint_validation = True  # MLflow would advise whoever loads it to add type hints; the signature says all

    def load_context(self, context: PythonModelContext) -> None:
        folder = Path(context.artifacts["champion"])
        self.classes: list[str] = json.loads((folder / "config.json").read_text(encoding="utf-8"))["classes"]
        self.session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])

    # without annotations: MLflow would take them for a signature
    def predict(self, context, model_input, params=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        del context, params
        logits: Any = self.session.run(["logits"], {"images": model_input})[0]
        raised = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float64)
        shares = raised / raised.sum(axis=1, keepdims=True)
        labels = [self.classes[k] for k in shares.argmax(axis=1)]
        return pd.DataFrame({"label": labels, "probability": shares.max(axis=1), "probabilities": shares.tolist()})


set_model(Champion())
