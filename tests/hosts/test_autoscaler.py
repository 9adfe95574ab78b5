"""Ray's autoscaler with the kinds of machines of cluster.yaml, as raylets on one host: from none to three, and back."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.hosts import needs
from tests.support.hosts.lan import Lan
from tests.support.hosts.waiting import tell
from tests.support.study_process import ROOT

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(900),
    pytest.mark.skipif(needs.missing() is not None, reason=str(needs.missing())),
]


def grown(folder: Path, demands: int, before: str = "true") -> list[dict[str, Any]]:
    """What `tests.support.hosts.growing` told; the host is there for the time of it."""
    lan = Lan(folder / "lan", workers=None)
    with lan:
        token, environment = "umask 077; ray get-auth-token --generate >&2", f". {ROOT}/search/cluster/env.sh"
        grow = f"cd {ROOT}; python -m tests.support.hosts.growing {demands}"
        ended = lan.laptop.run("; ".join([before, token, environment, grow]))
    assert lan.remains() == []
    return [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]


def test_from_none_to_three_and_back(tmp_path: Path) -> None:
    told = grown(tmp_path, 3)
    none, three, *later = told
    assert none["kinds"] == []
    assert len(three["kinds"]) in (3, 4), "one more where a machine was slow to tell that it is there"
    assert all("spot" in kind for kind in three["kinds"]), three
    assert later[-1]["kinds"] == []
    tell(f"{three['seconds'] - none['seconds']:6.1f} s  from 0 to 3 GPU machines ({', '.join(three['kinds'])})")
    tell(f"{later[-1]['seconds'] - three['seconds']:6.1f} s  from 3 back to 0, of which 6 s are the idle time")


def test_on_demand_where_there_is_no_spot(tmp_path: Path) -> None:
    none, one, *later = grown(tmp_path, 1, before="touch /tmp/no-spot")
    assert set(one["kinds"]) == {"g5-on-demand"}
    assert later[-1]["kinds"] == []
    tell(f"{one['seconds'] - none['seconds']:6.1f} s  to an on-demand machine where there is no spot")
