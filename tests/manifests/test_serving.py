"""The two ways to serve: the same container, and an InferenceService whose every field is checked.

Kubernetes' schemas do not hold KServe's kinds, so what `.ci/manifests` checks of the others is done here: its pod
against Kubernetes' schema, and the rest against the fields that KServe's v1beta1 API gives a predictor.
"""

from __future__ import annotations

from typing import Any

import jsonschema
import kubernetes_validate
import pytest

from sella_rec.serving.__main__ import parse
from sella_rec.serving.server import FINISH_SECONDS
from tests.manifests.overlays import containers, objects, of_kind, pods

KUBERNETES = "1.33"
# KServe's ComponentExtensionSpec, as far as it is used; the rest of a predictor is a pod's spec
EXTENSION = {
    "minReplicas": {"type": "integer", "minimum": 1},
    "maxReplicas": {"type": "integer", "minimum": 1},
    "scaleMetric": {"enum": ["cpu", "memory"]},
    "scaleTarget": {"type": "integer", "minimum": 1, "maximum": 100},
    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
    "deploymentStrategy": {"type": "object"},
}


@pytest.fixture
def service() -> Any:
    (found,) = of_kind(objects("local-kind-kserve"), "InferenceService")
    return found


def container(variant: str) -> tuple[Any, Any]:
    """The container that serves, and its pod's spec."""
    serving = (each for each in containers(objects(variant)) if "sella_rec.serving" in each[1].get("command", []))
    ((_, found, pod),) = serving
    return found, pod


def test_the_inference_service_is_one_of_v1beta1(service):
    assert service["apiVersion"] == "serving.kserve.io/v1beta1"
    assert set(service) == {"apiVersion", "kind", "metadata", "spec"}
    assert set(service["spec"]) == {"predictor"}
    predictor = service["spec"]["predictor"]
    extension = {name: value for name, value in predictor.items() if name in EXTENSION}
    jsonschema.validate(extension, {"properties": EXTENSION, "required": list(EXTENSION)})
    assert extension["minReplicas"] <= extension["maxReplicas"]
    pod = {name: value for name, value in predictor.items() if name not in EXTENSION}
    metadata = {"name": "predictor", "labels": predictor["labels"]}
    kubernetes_validate.validate(
        {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod}, KUBERNETES, strict=True
    )
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "selector": {"matchLabels": predictor["labels"]},
            "template": {"metadata": metadata, "spec": pod},
            "strategy": extension["deploymentStrategy"],
        },
    }
    kubernetes_validate.validate(deployment, KUBERNETES, strict=True)


def test_a_misspelt_field_of_the_inference_service_would_be_found(service):
    pod = {name: value for name, value in service["spec"]["predictor"].items() if name not in EXTENSION}
    pod["minReplica"] = 2
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "predictor"}, "spec": pod}, KUBERNETES, strict=True
        )


def test_both_ways_run_the_same_server(service):
    one, other = container("local-kind-deployment")[0], container("local-kind-kserve")[0]
    # by this name KServe knows the container that serves
    assert other["name"] == "kserve-container"
    assert {**one, "name": ""} == {**other, "name": ""}


@pytest.mark.parametrize("variant", ["local-kind-deployment", "local-kind-kserve"])
def test_its_options_are_the_servers_and_it_is_given_the_time_to_end(variant):
    found, pod = container(variant)
    options = parse(found["args"], "serve")
    assert options.port in {port["containerPort"] for port in found["ports"]}
    assert pod["terminationGracePeriodSeconds"] > options.drain_seconds + FINISH_SECONDS
    probe = found["readinessProbe"]
    # whoever routes has to have noticed by the end of the draining
    assert options.drain_seconds > probe["periodSeconds"] * probe["failureThreshold"]


def test_the_autoscaler_scales_the_deployment_and_alone_says_how_many():
    found = objects("local-kind-deployment")
    (scaler,) = of_kind(found, "HorizontalPodAutoscaler")
    target = scaler["spec"]["scaleTargetRef"]
    (deployment,) = (e for e in of_kind(found, target["kind"]) if e["metadata"]["name"] == target["name"])
    assert scaler["metadata"]["namespace"] == deployment["metadata"]["namespace"]
    assert "replicas" not in deployment["spec"]
    # above the budget's one that may be away, so that something serves through a drain
    assert scaler["spec"]["minReplicas"] >= 2


def test_only_labelled_clients_reach_it_and_it_reaches_only_the_registry():
    found = objects("local-kind-deployment")
    (policy,) = (e for e in of_kind(found, "NetworkPolicy") if e["metadata"]["name"] == "sella-rec-serve")
    (_, template), *more = ((o, t) for o, t in pods(found) if o["metadata"]["name"] == "sella-rec-serve")
    assert not more
    # the pipelines' policy, which opens more, selects by this label
    assert "app.kubernetes.io/part-of" not in template["metadata"]["labels"]
    (rule,) = policy["spec"]["ingress"]
    assert [peer["podSelector"]["matchLabels"] for peer in rule["from"]] == [{"sella-rec/client": "true"}]
    assert not any("ipBlock" in peer for rule in policy["spec"]["egress"] for peer in rule["to"])
