"""Read manifests of Kubernetes: the Pods of an agent, whatever makes them. Pure.

The fields are those of the Pod, v1 (https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kagent_sdk.deploy.deployment import Deployment
from kagent_sdk.deploy.lockdown.data import at, items, mapping, numbered, shown
from kagent_sdk.deploy.lockdown.documents import Document, Path, read_documents, spell
from kagent_sdk.deploy.lockdown.roles import LABEL, choose, is_ours
from kagent_sdk.errors import DeployError

TEMPLATES: dict[str, Path] = {
    "Pod": (),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    **dict.fromkeys(
        ("DaemonSet", "Deployment", "Job", "ReplicaSet", "StatefulSet"), ("spec", "template")
    ),
}
"""Where each kind has its Pod."""


@dataclass(frozen=True, slots=True)
class Pod:
    """A Pod, or the template of Pods.

    Attributes:
        document: that it stands in.
        path: to it in the document.
        name: kind and name, as kubectl has them.
        value: the Pod.
        namespace: that it is in; empty: none is named.
    """

    document: Document
    path: Path
    name: str
    value: dict[str, Any]
    namespace: str

    @property
    def spec(self) -> dict[str, Any]:
        """Return what is said of it."""
        return mapping(self.value.get("spec"))

    @property
    def labels(self) -> dict[str, Any]:
        """Return its own."""
        return mapping(at(self.value, "metadata", "labels"))

    @property
    def annotations(self) -> dict[str, Any]:
        """Return its own."""
        return mapping(at(self.value, "metadata", "annotations"))

    def place(self, *path: str | int) -> str:
        """Return a place in it as people read it."""
        return self.where(*path, label=spell(path))

    def volumes(self) -> dict[str, tuple[str, str]]:
        """Return type and source of each volume by its name."""
        found = {}
        for _, volume in numbered(self.spec.get("volumes"), "volumes"):
            kinds = sorted(volume.keys() - {"name"}) or ["emptyDir"]
            source = at(volume, "hostPath", "path")
            known = ("bind", shown(source)) if "hostPath" in kinds else (kinds[0], "")
            found[shown(volume.get("name"))] = known
        claims = at(self.document.value, "spec", "volumeClaimTemplates")
        for _, claim in numbered(claims, "volumeClaimTemplates"):
            found[shown(at(claim, "metadata", "name"))] = ("persistentVolumeClaim", "")
        return found

    def where(self, *path: str | int, label: str) -> str:
        """Return a place in it, by the label that it has from the Pod on."""
        return self.document.where(*self.path, *path, label=f"{self.name} {label}")


def read_pods(text: str, wanted: Deployment) -> tuple[tuple[Document, ...], list[Pod]]:
    """Return the documents of a text, and the Pods of the agent and its egress proxy.

    Raises:
        DeployError: it cannot be read, or no Pod is the agent's.
    """
    documents = read_documents(text)
    pods = [pod for document in _unlisted(documents) for pod in _pods(document)]
    if not pods:
        raise DeployError("there is no Pod in it, and nothing that makes Pods")
    ours = [pod for pod in pods if _is_ours(wanted, pod)]
    return documents, choose(pods, ours, [pod.name for pod in pods], wanted)


def _unlisted(documents: tuple[Document, ...]) -> Iterator[Document]:
    for document in documents:
        if at(document.value, "kind") == "List":
            for item in items(at(document.value, "items")):
                yield Document(item, {})
        else:
            yield document


def _pods(document: Document) -> Iterator[Pod]:
    kind = shown(at(document.value, "kind"))
    if kind in TEMPLATES:
        path = TEMPLATES[kind]
        metadata = mapping(at(document.value, "metadata"))
        name = f"{kind}/{shown(metadata.get('name'))}"
        namespace = metadata.get("namespace")
        value = mapping(at(document.value, *map(str, path)))
        yield Pod(document, path, name, value, "" if namespace is None else shown(namespace))


def _is_ours(wanted: Deployment, pod: Pod) -> bool:
    name = pod.name.rpartition("/")[2]
    label = pod.labels.get(LABEL)
    images = [shown(at(container, "image")) for container in items(pod.spec.get("containers"))]
    told = None if label is None else shown(label)
    return any(is_ours(wanted, name, image, told) for image in (None, *images))
