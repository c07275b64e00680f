"""What NetworkPolicies of a file leave a Pod of its way out. Pure.

A Pod that no policy selects for ``Egress`` reaches everything; one that some select, what any of
them allows (https://kubernetes.io/docs/concepts/services-networking/network-policies/).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kagent_sdk.deploy.lockdown.data import at, items, mapping, shown, texts
from kagent_sdk.deploy.lockdown.documents import Document
from kagent_sdk.deploy.lockdown.facts import Joined, Network


def networks_of(
    documents: tuple[Document, ...],
    namespace: str,
    labels: dict[str, Any],
    where: str,
    allowed: frozenset[str],
) -> Iterator[Joined]:
    """Yield where a Pod may reach: one entry for each rule that leads out.

    Args:
        documents: of the file.
        namespace: of the Pod; empty: none is named.
        labels: of the Pod.
        where: the Pod is in the file.
        allowed: blocks of addresses that the policy allows it.
    """
    selecting = [document for document in documents if _selects(document.value, namespace, labels)]
    if not selecting:
        text = "no NetworkPolicy of this file takes the way out from it; it"
        yield Joined(text, Network.ORDINARY, where)
    for document in selecting:
        name = shown(at(document.value, "metadata", "name"))
        for number, rule in enumerate(items(at(document.value, "spec", "egress"))):
            if _leads_out(rule, allowed):
                text = f"NetworkPolicy {name}, rule {number},"
                label = f"NetworkPolicy/{name} spec.egress[{number}]"
                place = document.where("spec", "egress", number, label=label)
                yield Joined(text, Network.ORDINARY, place)
    if selecting:
        yield Joined("its Pod's", Network.INTERNAL, where)


def _selects(value: Any, namespace: str, labels: dict[str, Any]) -> bool:
    if at(value, "kind") != "NetworkPolicy":
        return False
    of = at(value, "metadata", "namespace")
    if (shown(of) if of is not None else namespace) != namespace:
        return False
    if "Egress" not in texts(at(value, "spec", "policyTypes")) and not at(value, "spec", "egress"):
        return False
    return selects(at(value, "spec", "podSelector"), labels)


def selects(selector: Any, labels: dict[str, Any]) -> bool:
    """Tell whether a selector is sure to select what has labels; ``matchExpressions`` are not."""
    if not isinstance(selector, dict) or selector.keys() - {"matchLabels"}:
        return False
    wanted = mapping(selector.get("matchLabels"))
    return all(key in labels and labels[key] == value for key, value in wanted.items())


def _leads_out(rule: Any, allowed: frozenset[str]) -> bool:
    peers = at(rule, "to")
    if not isinstance(peers, list) or not peers:
        # Whatever the ports are: there are tunnels through port 53.
        return True
    return any(_is_wide(mapping(peer), allowed) for peer in peers)


def _is_wide(peer: dict[str, Any], allowed: frozenset[str]) -> bool:
    """Tell whether a peer is more than some Pods and addresses that the policy allows."""
    if "ipBlock" in peer:
        return shown(at(peer, "ipBlock", "cidr")) not in allowed
    return not at(peer, "podSelector") and not at(peer, "namespaceSelector")
