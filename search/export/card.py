"""The model card: README.md of an exported network."""

import json
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from resnet import cost
from resnet.classifier import Exported
from search.export.trained import Exportable
from search.formatting import error_on
from search.rendering import render

NAMED = 20  # classes that are named


def card(model: Exportable, config: Exported, answers: Sequence[str], apart: float | None, compared: int) -> str:
    """Markdown: what is exported, by its description, and what the network says of the images in the folder.

    `apart` is the largest difference of ONNX Runtime's logits from the network's on `compared` images; None without
    ONNX.
    """
    info, facts = model.data.info, model.facts
    return render(
        Path(__file__).parent / "templates" / "card.md",
        facts=facts,
        info=info,
        data_name=model.data_name,
        interval=facts.interval(info.n_test),
        margin=model.margin,
        validated=error_on("Validation", facts.measure),
        tested=error_on("Test", facts.measure),
        seeds="; ".join(f"seed {seed}: {error:.2f} %" for seed, error in facts.tested.items()),
        fits=config.image.fit == "centre",
        versions=", ".join(f"{name} {version}" for name, version in facts.versions.items()),
        shown=len(answers),
        answers=Markup(json.dumps(list(answers), ensure_ascii=False)),  # in a block of code, on one line
        apart=apart,
        compared=compared,
        named=NAMED,
        price=cost(model.spec.net, info.shape[:2]),
        fields=model.spec.flat().items(),
    )
