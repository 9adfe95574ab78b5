"""Shapes in annotations are checked under pytest; graphs and combinations are checked without, in a process apart."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import nn

from resnet import article
from resnet.net import GlobalAveragePooling
from resnet.residual import Plain, Residual
from resnet.shortcut import Scale

ROOT = Path(__file__).parents[2]


def every_network(*flags, cache):
    """What the script counted, in a process of its own."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.support.every_network", *flags],
        cwd=ROOT,
        env=os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode in (0, 1), ran.stderr
    found = json.loads(ran.stdout)
    assert (ran.returncode == 0) == (not found["failures"])
    return found


def test_shapes_are_checked():
    """Each of these calls works without the checks."""
    vector = torch.zeros(3)
    with pytest.raises(TypeCheckError, match="n c i j"):
        Scale(2.0)(vector)
    with pytest.raises(TypeCheckError, match="n c i j"):
        Residual(nn.Identity(), nn.Identity(), nn.Identity())(vector)
    with pytest.raises(TypeCheckError, match="n c i j"):
        GlobalAveragePooling()(torch.zeros(2, 3, 4, 4, 5))
    with pytest.raises(TypeCheckError, match="n d k l"):
        Plain(nn.Flatten(), nn.Identity())(torch.zeros(2, 3, 4, 4))
    with pytest.raises(TypeCheckError, match="NetSpec"):
        article.stem(SimpleNamespace(in_channels=3, channels=[4]))


@pytest.mark.slow
def test_choices_make_one_graph(tmp_path):
    """torch.compile(fullgraph=True) and torch.export: every fifth of 38; all 117 with `--graphs all`."""
    found = every_network("--graphs", "pairs", "--limit", "8", cache=tmp_path)
    assert found["failures"] == []
    # 5 versions x 7 shortcuts, each with the unit that makes all pairs; 1 ImageNet net; the article's 2
    assert found["networks"] == 5 * 7 + 1 + 2
    assert found["passed"] == found["checked"] == 8


def test_every_combination_is_a_network_or_refused_with_a_remedy(tmp_path):
    """The counts by hand: 14 depths, of which 11, 7 and 6 are 3n+2, 6n+2 and 9n+2; 2 and 4 of 1512.03385, Table 1."""
    found = every_network("--limit", "6", cache=tmp_path)
    assert found["tried"] == 3 * 3 * 5 * 7 * 2 * 2 * 14
    cifar, imagenet, article = (11 + 7 + 6) * 5 * 7 * 2 * 2, (2 + 4) * 5 * 7 * 2 * 2, 2 * 2
    assert found["refused"] == found["tried"] - (cifar + imagenet + article)
    # 5 shortcuts that change dimension in 2 ways, 2 in none; where the stride is matters in bottlenecks alone
    assert found["networks"] == 5 * (5 * 2 + 2) * ((11 + 7 + 2) + 2 * (6 + 4)) + 2
    assert found["failures"] == []
    assert found["passed"] == 3 * found["checked"] == 3 * 6
