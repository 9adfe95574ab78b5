"""The code that MLflow keeps with a champion and runs where it is served: ONNX Runtime and NumPy, nothing of ours.

It is executed as a script, wherever the model is loaded; nothing imports it.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext


class Champion(PythonModel):
    """Images (n, H, W, C), whole numbers from 0 to 255 -> a row for each: `label`, its `probability`, and all
    `probabilities` by class."""

    _skip_type_hint_validation = True  # MLflow would advise whoever loads it to add type hints; the signature says all

    def load_context(self, context: PythonModelContext) -> None:
        folder = Path(context.artifacts["champion"])
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.classes: list[str] = config["classes"]
        self.shape = tuple(config["image"][side] for side in ("height", "width", "channels"))
        self.session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])

    # without annotations: MLflow would take them for a signature
    def predict(self, context, model_input, params=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        del context, params
        logits: Any = self.session.run(["logits"], {"images": self._bytes(model_input)})[0]
        raised = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float64)
        shares = raised / raised.sum(axis=1, keepdims=True)
        labels = [self.classes[k] for k in shares.argmax(axis=1)]
        return pd.DataFrame({"label": labels, "probability": shares.max(axis=1), "probabilities": shares.tolist()})

    def _bytes(self, given: Any) -> Any:
        """The images as the network reads them. By a signature with uint8 MLflow would cut the fractions of JSON off.

        Raises:
            MlflowException: they are of another shape, or may be on another scale. A server answers 400 with it.
        """
        images, wanted = np.asarray(given), ", ".join(map(str, self.shape))
        fault = ""
        if images.shape[1:] != self.shape:
            fault = f"the shape is {images.shape} and not (n, {wanted})"
        elif images.dtype.kind not in "iu":
            fault = f"{images.dtype} may be on any scale; values in 0..1 become bytes by (255 * x).round()"
        elif images.size and (images.min() < 0 or images.max() > 255):
            fault = f"values from {images.min()} to {images.max()} are no bytes"
        if fault:
            raise MlflowException.invalid_parameter_value(f"images: {fault}; give whole numbers from 0 to 255")
        return images.astype(np.uint8)


set_model(Champion())
