"""What nodes cost, by their labels; the node table is as Ray has it."""

from typing import Any

import pytest

from search.errors import InputError
from search.execution import prices
from search.spec import SearchSpec

SEARCH = SearchSpec(max_cost="20 USD")


def node(address: str, alive: bool = True, **labels: str) -> dict[str, Any]:
    named = {name.replace("_", "-"): value for name, value in labels.items()}
    return {"Alive": alive, "NodeManagerAddress": address, "Labels": {"ray.io/node-id": "f0"} | named}


def test_the_nodes_that_are_alive_are_summed_by_currency() -> None:
    nodes = [node("a", usd_per_hour="0.20"), node("b", usd_per_hour="1.01", eur_per_hour="0.9"), node("c")]
    gone = node("d", alive=False, usd_per_hour="99")
    assert prices.hourly([*nodes, gone]) == {"USD": pytest.approx(1.21), "EUR": 0.9}


def test_a_node_or_a_type_without_a_price_is_refused() -> None:
    head = node("10.0.0.1", usd_per_hour="0.20")
    types = {"head": {"labels": {"usd-per-hour": "0.20"}}, "gpu": {"max_workers": 8}, "never": {"max_workers": 0}}
    plan = {"head_node_type": "head", "available_node_types": types}
    with pytest.raises(InputError, match=r"search.max_cost = 20 USD, but type gpu does not say .*label usd-per-hour"):
        prices.check(SEARCH, [head], plan)
    types["gpu"]["labels"] = {"usd-per-hour": "1.01"}
    prices.check(SEARCH, [head, node("gone", alive=False)], plan)
    for odd in (node("10.0.0.2"), node("10.0.0.2", usd_per_hour="dear"), node("10.0.0.2", eur_per_hour="1")):
        with pytest.raises(InputError, match=r"node 10.0.0.2 does not say what it costs"):
            prices.check(SEARCH, [head, odd], {})
    prices.check(SearchSpec(), [node("10.0.0.2")], {})
