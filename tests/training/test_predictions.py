"""What a network says of the test images: kept whole, with the images that it is wrong about."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, confusion_matrix

from search import training
from search.data import Split
from search.training import Checkpoint, Predictions, checkpoint
from search.training.loop import Evaluation, State

CLASSES = 5


def split(n: int, shape: tuple[int, int, int], classes: int = CLASSES) -> Split:
    rng = np.random.default_rng(0)
    return Split(rng.integers(256, size=(n, *shape), dtype=np.uint8), rng.integers(classes, size=n))


def evaluation(of: Split, wrong: int) -> Evaluation:
    """The first images wrong; image k with probability (k + 1) / 1000."""
    given = of.labels.copy()
    given[:wrong] = (given[:wrong] + 1) % CLASSES
    probability = ((np.arange(len(given)) + 1) / 1000).astype(np.float32)
    return Evaluation(0.5, of.labels, given, probability)


@pytest.mark.parametrize(
    ("shape", "shown"),
    [
        ((8, 8, 1), (8, 8, 1)),
        ((9, 7, 3), (9, 7, 3)),
        ((6, 6, 2), (6, 6, 1)),
        ((6, 6, 4), (6, 6, 3)),
        ((320, 200, 3), (160, 100, 3)),
        ((1, 400, 1), (1, 160, 1)),
    ],
)
def test_the_surest_wrong_images_are_kept(shape: tuple[int, int, int], shown: tuple[int, int, int]) -> None:
    of = split(40, shape)
    made = Predictions.of(evaluation(of, 15), of, [f"dog/{k}.jpg" for k in range(40)])
    assert made.shown.tolist() == [*range(14, 2, -1)], "12, of the highest probability, that first"
    assert made.names.tolist() == [f"dog/{k}.jpg" for k in range(14, 2, -1)]
    assert made.images.shape == (12, *shown)
    if max(shape) <= 160:
        assert np.array_equal(made.images[0], of.images[14][..., : shown[2]])


def test_confusion_is_that_of_sklearn() -> None:
    of = split(60, (2, 2, 1))
    found = evaluation(of, 22)
    made = Predictions.of(found, of, ())
    assert np.array_equal(made.confusion(7), confusion_matrix(of.labels, found.given, labels=range(7)))
    assert made.names.tolist() == [""] * 12


def test_a_class_without_images_does_not_count() -> None:
    labels, given = np.array([0, 0, 0, 2, 2, 4]), np.array([0, 1, 0, 3, 2, 4])
    found = Evaluation(0.0, labels, given, np.ones(6, np.float32)).metrics
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        expected = 100 * (1 - balanced_accuracy_score(labels, given))
    assert found["balanced_error"] == pytest.approx(expected)
    assert found["balanced_error"] == pytest.approx(100 * (1 / 3 + 1 / 2 + 0) / 3)


def test_it_is_kept_with_the_checkpoint(tmp_path: Path) -> None:
    of = split(40, (8, 8, 1))
    for wrong in (0, 15):
        made, folder = Predictions.of(evaluation(of, wrong), of, ()), tmp_path / str(wrong)
        state = State(3, {"w": torch.ones(2)}, {"w": torch.zeros(2)})
        checkpoint.write(folder, Checkpoint(state, [{"epoch": 1}], made.stored))
        read = Predictions.of_training(str(folder))
        assert read is not None
        for name, value in vars(made).items():
            assert np.array_equal(vars(read)[name], value), name
            assert vars(read)[name].dtype == value.dtype, name
        latest = training.latest(folder)
        assert latest is not None
        assert latest.tested == made.stored
        assert training.validated_weights(folder, 3) == f"{folder}/epoch-000003/model.safetensors"


def test_of_a_training_that_was_not_tested_there_is_nothing(tmp_path: Path) -> None:
    assert Predictions.of_training(str(tmp_path / "none")) is None
    checkpoint.write(tmp_path, Checkpoint(State(1, {}, {}), []))
    assert Predictions.of_training(str(tmp_path)) is None


def test_a_damaged_file_counts_as_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    of = split(40, (8, 8, 1))
    made = Predictions.of(evaluation(of, 3), of, ()).stored
    path = Path(checkpoint.write(tmp_path, Checkpoint(State(1, {}, {}), [], made)))
    (path / "test.npz").write_bytes(made[:-1] + b"?")
    assert Predictions.of_training(str(tmp_path)) is None
    assert "test.npz is damaged" in caplog.text
