"""What the tests on cores promise, on a real GPU: the functions of the benchmark's part `check`. About three minutes.

    python3 -m pytest tests/test_gpu.py

On a machine that has torch and nothing of this project, with the other packages unpacked in PACKAGES:

    PYTHONPATH=PACKAGES:. python3 -m pytest -p no:cacheprovider tests/test_gpu.py
"""

import pytest
import torch

from benchmarks.gpu.promises import CASES, constant, left_by_trials, promises

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")]


@pytest.mark.parametrize("case", CASES)
def test_a_trial_keeps_the_promises(case: str) -> None:
    assert [promise for promise, holds in promises(case).items() if not holds] == []


def test_trials_leave_no_memory_behind() -> None:
    left = left_by_trials()
    assert constant(left), left
