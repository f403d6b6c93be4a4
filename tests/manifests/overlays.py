"""The objects of an overlay: as kustomize built them where `SELLA_BUILT_MANIFESTS` names a folder of `<overlay>.yaml`,
else as written (resources and components followed, namespaces set, patches and generators left out)."""

import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

MANIFESTS = Path(__file__).parents[2] / "manifests"
OVERLAYS = sorted(path.name for path in (MANIFESTS / "overlays").iterdir())
# components that an overlay may take in, each tried on top of one
OPTIONAL = ("serving/deployment", "serving/kserve", "components/trainer", "components/private-registry")
VARIANTS = {f"local-kind-{Path(each).name}": ("local-kind", MANIFESTS / each) for each in OPTIONAL}
BUILT = os.environ.get("SELLA_BUILT_MANIFESTS")
Object = dict[str, Any]
CLUSTER_WIDE = {"Namespace", "ClusterRole", "ClusterRoleBinding"}


@functools.cache
def objects(overlay: str) -> list[Object]:
    if BUILT:
        return list(yaml.safe_load_all((Path(BUILT) / f"{overlay}.yaml").read_text()))
    base, component = VARIANTS.get(overlay, (overlay, None))
    return [*_written(MANIFESTS / "overlays" / base), *(_written(component) if component else [])]


def _written(folder: Path) -> Iterator[Object]:
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    for entry in kustomization.get("resources", []) + kustomization.get("components", []):
        path = (folder / entry).resolve()
        found = _written(path) if path.is_dir() else yaml.safe_load_all(path.read_text())
        for each in found:
            if "namespace" in kustomization and each["kind"] not in CLUSTER_WIDE:
                each["metadata"].setdefault("namespace", kustomization["namespace"])
            yield each


def generators(overlay: str, kind: str) -> list[Object]:
    """`secretGenerator` or `configMapGenerator` entries of an overlay and all it is built from."""

    def collect(folder: Path) -> Iterator[Object]:
        kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
        for entry in kustomization.get("resources", []) + kustomization.get("components", []):
            if (folder / entry).is_dir():
                yield from collect((folder / entry).resolve())
        for each in kustomization.get(kind, []):
            yield {"namespace": kustomization.get("namespace"), **each, "folder": folder}

    return list(collect(MANIFESTS / "overlays" / VARIANTS.get(overlay, (overlay,))[0]))


def of_kind(found: list[Object], *kinds: str) -> list[Object]:
    return [each for each in found if each["kind"] in kinds]


def name_of(each: Object) -> str:
    return f"{each['kind']} {each['metadata'].get('namespace', '')}/{each['metadata']['name']}"


def pods(found: list[Object]) -> list[tuple[Object, Object]]:
    """Pod templates, each with the object that makes the pods."""
    made = [(each, each["spec"]["template"]) for each in of_kind(found, "Deployment", "StatefulSet", "Job")]
    predictors = [(each, each["spec"]["predictor"]) for each in of_kind(found, "InferenceService")]
    return made + [(each, {"metadata": {"labels": spec["labels"]}, "spec": spec}) for each, spec in predictors]


def containers(found: list[Object]) -> Iterator[tuple[str, Object, Object]]:
    """Name for messages, container and its pod's spec; init containers too."""
    for owner, template in pods(found):
        spec = template["spec"]
        for container in spec.get("initContainers", []) + spec["containers"]:
            yield f"{name_of(owner)}: {container['name']}", container, spec


def selects(selector: Object, labels: dict[str, str]) -> bool:
    assert set(selector) <= {"matchLabels"}, f"a selector that this check does not know: {selector}"
    return selector.get("matchLabels", {}).items() <= labels.items()
