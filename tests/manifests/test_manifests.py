"""What must hold of every overlay, whoever edits it."""

import re
import tomllib
from collections.abc import Iterator

import pytest
import yaml

from tests.manifests.overlays import (
    BUILT,
    MANIFESTS,
    OVERLAYS,
    VARIANTS,
    Object,
    containers,
    generators,
    name_of,
    objects,
    of_kind,
    pods,
    selects,
)

# namespaces that others install, with the labels their pods are known by
OTHERS: dict[str, list[dict[str, str]]] = {
    "kube-system": [{"k8s-app": "kube-dns"}],
    "kubeflow": [{"app.kubernetes.io/part-of": "sella-rec"}, {"sella-rec/client": "true"}],
}


@pytest.fixture(params=[*OVERLAYS, *VARIANTS])
def overlay(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def found(overlay: str) -> list[Object]:
    return objects(overlay)


def test_the_overlays_are_the_three_that_the_docs_tell_of():
    assert OVERLAYS == ["external", "gpu", "local-kind"]


def test_every_container_keeps_the_restricted_pod_security_standard_and_a_read_only_root(found: list[Object]):
    checked = 0
    for name, container, pod in containers(found):
        security, pod_security = container["securityContext"], pod["securityContext"]
        assert security["allowPrivilegeEscalation"] is False, name
        assert security["readOnlyRootFilesystem"] is True, name
        assert security["capabilities"] == {"drop": ["ALL"]}, name
        assert pod_security["runAsNonRoot"] is True, name
        assert pod_security["runAsUser"] > 0, name
        assert pod_security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert {"privileged", "runAsUser", "seccompProfile", "procMount"}.isdisjoint(security), name
        assert {"hostNetwork", "hostPID", "hostIPC"}.isdisjoint(pod), name
        assert not any("hostPort" in port for port in container.get("ports", [])), name
        checked += 1
    assert checked >= 2


def test_pods_mount_only_volumes_that_the_restricted_standard_allows(found: list[Object]):
    allowed = {"configMap", "emptyDir", "persistentVolumeClaim", "secret", "projected"}
    for owner, template in pods(found):
        for volume in template["spec"].get("volumes", []):
            assert set(volume) - {"name"} <= allowed, f"{name_of(owner)}: {volume['name']}"


def test_no_pod_gets_a_kubernetes_token(found: list[Object]):
    for owner, template in pods(found):
        assert template["spec"]["automountServiceAccountToken"] is False, name_of(owner)


def test_namespaces_enforce_the_restricted_standard_at_a_pinned_version(found: list[Object]):
    for namespace in of_kind(found, "Namespace"):
        labels = namespace["metadata"]["labels"]
        for mode in ("enforce", "audit", "warn"):
            assert labels[f"pod-security.kubernetes.io/{mode}"] == "restricted"
            assert re.fullmatch(r"v1\.\d+", labels[f"pod-security.kubernetes.io/{mode}-version"])


def test_every_container_asks_for_cpu_and_memory_and_is_limited_in_memory(found: list[Object]):
    for name, container, _ in containers(found):
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys(), name
        assert "memory" in container["resources"]["limits"], name


def test_every_server_has_all_three_probes_on_a_port_it_opens(found: list[Object]):
    for owner, template in pods(found):
        for container in template["spec"]["containers"] if owner["kind"] != "Job" else []:
            ports = {port["name"] for port in container["ports"]}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                check = container[probe].get("httpGet")
                assert check is None or check["port"] in ports, f"{name_of(owner)}: {probe}"


def test_images_are_pinned_by_tag_and_ours_by_the_version_of_the_package(found: list[Object]):
    version = tomllib.loads((MANIFESTS.parent / "pyproject.toml").read_text())["project"]["version"]
    for name, container, _ in containers(found):
        image, _, tag = container["image"].partition("@")[0].rpartition(":")
        assert re.match(r"v?\d+\.\d+", tag), f"{name}: {container['image']}"
        assert not image.startswith("sella-rec") or tag == version, f"{name}: {tag}, but pyproject.toml has {version}"


def test_every_service_and_budget_selects_pods_and_every_service_a_port_they_open(found: list[Object]):
    for each in of_kind(found, "Service", "PodDisruptionBudget"):
        selector = each["spec"]["selector"]
        selector = selector if each["kind"] == "PodDisruptionBudget" else {"matchLabels": selector}
        chosen = list(_pods_in(found, each["metadata"]["namespace"], selector))
        assert chosen, name_of(each)
        opened = {port["name"] for pod in chosen for c in pod["spec"]["containers"] for port in c.get("ports", [])}
        assert {port["targetPort"] for port in each["spec"].get("ports", [])} <= opened, name_of(each)


def test_the_tracking_server_survives_a_drain_without_blocking_it(found: list[Object]):
    budgets = {each["metadata"]["name"]: each["spec"] for each in of_kind(found, "PodDisruptionBudget")}
    assert budgets["mlflow"]["maxUnavailable"] == 1


def test_controllers_select_their_own_pods(found: list[Object]):
    for owner in of_kind(found, "Deployment", "StatefulSet"):
        assert selects(owner["spec"]["selector"], owner["spec"]["template"]["metadata"]["labels"]), name_of(owner)


def test_every_namespace_of_ours_denies_all_traffic_by_default(found: list[Object]):
    denied = {
        policy["metadata"]["namespace"]
        for policy in of_kind(found, "NetworkPolicy")
        if policy["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    }
    assert denied == {namespace["metadata"]["name"] for namespace in of_kind(found, "Namespace")} == {"sella-rec"}


def test_every_peer_of_a_network_policy_exists(found: list[Object]):
    for policy in of_kind(found, "NetworkPolicy"):
        home, spec = policy["metadata"]["namespace"], policy["spec"]
        assert _exists(found, home, spec["podSelector"]), name_of(policy)
        for direction, key in (("ingress", "from"), ("egress", "to")):
            for rule in spec.get(direction, []):
                for peer in rule[key]:
                    if "ipBlock" in peer:
                        assert "169.254.0.0/16" in peer["ipBlock"]["except"], f"{name_of(policy)}: cloud metadata"
                        continue
                    labels = peer.get("namespaceSelector", {}).get("matchLabels", {})
                    there = labels.get("kubernetes.io/metadata.name", home)
                    assert _exists(found, there, peer.get("podSelector", {})), f"{name_of(policy)}: {peer}"


def test_what_a_policy_lets_in_is_let_out_on_the_other_side(found: list[Object]):
    """Each server's port is reached by MLflow only through a policy on either side."""
    into = {p["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for p in _towards(found, "ingress")}
    for policy in _towards(found, "egress"):
        for rule in policy["spec"]["egress"]:
            for peer in rule["to"]:
                target = peer.get("podSelector", {}).get("matchLabels", {}).get("app.kubernetes.io/name")
                assert target is None or target in into, name_of(policy)


def _towards(found: list[Object], direction: str) -> Iterator[Object]:
    for policy in of_kind(found, "NetworkPolicy"):
        in_ours = policy["metadata"]["namespace"] == "sella-rec"
        if direction in policy["spec"] and policy["spec"]["podSelector"] and (in_ours or direction == "egress"):
            yield policy


def test_roles_name_what_they_grant_and_secrets_one_by_one(found: list[Object]):
    roles = of_kind(found, "Role", "ClusterRole")
    assert roles
    for role in roles:
        for rule in role["rules"]:
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"], name_of(role)
            assert "pods/exec" not in rule["resources"], name_of(role)
            if "secrets" in rule["resources"]:
                assert rule["verbs"] == ["get"], name_of(role)
                assert set(rule["resourceNames"]) == {"mlpipeline-minio-artifact", "kfp-mlflow-credentials"}


def test_only_with_trainer_may_the_pipelines_account_run_a_training_job_and_read_its_log(overlay: str):
    found = objects(overlay)
    granted = {
        (group, resource, verb)
        for role in of_kind(found, "Role")
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    needed = {("trainer.kubeflow.org", "trainjobs", verb) for verb in ("create", "get", "delete")}
    needed |= {("", "pods/log", "get"), ("", "events", "list")}
    # a TrainJob's pods are made for whoever asks: as good as making pods, with any Secret in them
    assert granted & needed == (needed if overlay == "local-kind-trainer" else set())
    assert ("", "pods", "list") in granted
    assert len(of_kind(found, "ClusterRole")) == (overlay == "local-kind-trainer")


def test_bindings_join_roles_and_accounts_that_exist(found: list[Object]):
    accounts = {(each["metadata"]["namespace"], each["metadata"]["name"]) for each in of_kind(found, "ServiceAccount")}
    roles = {(each["kind"], each["metadata"]["name"]) for each in of_kind(found, "Role", "ClusterRole")}
    for binding in of_kind(found, "RoleBinding", "ClusterRoleBinding"):
        assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) in roles, name_of(binding)
        assert {(each["namespace"], each["name"]) for each in binding["subjects"]} <= accounts, name_of(binding)
    for owner, template in pods(found):
        if account := template["spec"].get("serviceAccountName"):
            assert (owner["metadata"]["namespace"], account) in accounts, name_of(owner)


def test_every_claim_that_a_pod_mounts_exists_and_every_mount_has_its_volume(found: list[Object]):
    claims = {(e["metadata"]["namespace"], e["metadata"]["name"]) for e in of_kind(found, "PersistentVolumeClaim")}
    for owner, template in pods(found):
        spec = template["spec"]
        volumes = {volume["name"] for volume in spec.get("volumes", [])}
        volumes |= {claim["metadata"]["name"] for claim in owner["spec"].get("volumeClaimTemplates", [])}
        for volume in spec.get("volumes", []):
            if "persistentVolumeClaim" in volume:
                claim = volume["persistentVolumeClaim"]["claimName"]
                assert (owner["metadata"]["namespace"], claim) in claims, f"{name_of(owner)}: {claim}"
        for container in spec.get("initContainers", []) + spec["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} == volumes, name_of(owner)


def test_every_secret_and_config_map_that_a_pod_reads_is_made(overlay: str, found: list[Object]):
    kept = of_kind(found, "Secret", "ConfigMap")
    made = {(each["kind"], each["metadata"]["namespace"], each["metadata"]["name"]) for each in kept}
    if not BUILT:
        for kind, key in (("Secret", "secretGenerator"), ("ConfigMap", "configMapGenerator")):
            made |= {(kind, each["namespace"], each["name"]) for each in generators(overlay, key)}
    for owner, template in pods(found):
        for kind, name in _read_by(template["spec"]):
            assert (kind, owner["metadata"]["namespace"], name) in made, f"{name_of(owner)}: {kind} {name}"


def _read_by(spec: Object) -> Iterator[tuple[str, str]]:
    for container in spec.get("initContainers", []) + spec["containers"]:
        for source in container.get("envFrom", []):
            kind = "Secret" if "secretRef" in source else "ConfigMap"
            yield kind, source["secretRef" if kind == "Secret" else "configMapRef"]["name"]
        for variable in container.get("env", []):
            if "secretKeyRef" in variable.get("valueFrom", {}):
                yield "Secret", variable["valueFrom"]["secretKeyRef"]["name"]
    for volume in spec.get("volumes", []):
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"]


def test_no_secret_is_written_down():
    for path in MANIFESTS.rglob("*.yaml"):
        for each in yaml.safe_load_all(path.read_text()):
            # a JSON patch is a list
            if isinstance(each, dict):
                assert each["kind"] != "Secret", path
                for generator in each.get("secretGenerator", []):
                    assert set(generator) <= {"name", "namespace", "envs", "literals", "options"}, path
                    told = {literal.partition("=")[0] for literal in generator.get("literals", [])}
                    assert told <= {"AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"}, path


def test_every_secret_comes_from_an_untracked_file_whose_example_holds_no_value(overlay: str):
    ignored = (MANIFESTS.parent / ".gitignore").read_text().splitlines()
    assert "manifests/overlays/*/secrets/*.env" in ignored
    entries = generators(overlay, "secretGenerator")
    assert {entry["name"] for entry in entries} >= {"mlflow", "mlflow-pipelines", "database", "object-store"}
    for entry in entries:
        for file in entry["envs"]:
            example = entry["folder"] / f"{file}.example"
            for line in example.read_text().splitlines():
                key, _, value = line.partition("=")
                if re.search("PASSWORD|SECRET|TOKEN", key) and not line.startswith("#"):
                    assert value in {"<random>", "<yours>"}, f"{example}: {key}"


def test_config_maps_hold_no_password(overlay: str):
    for entry in generators(overlay, "configMapGenerator"):
        files = [entry["folder"] / file.rpartition("=")[2] for file in entry.get("files", [])]
        # a certificate that whoever applies the overlay brings
        files = [path.with_suffix(".crt.example") if path.suffix == ".crt" else path for path in files]
        texts = [*entry.get("literals", []), *(path.read_text() for path in files)]
        for text in texts:
            assert not re.search(r"(?im)^\s*\w*(password|secret_access_key|token)\w*\s*=", text), entry["name"]
            assert not re.search(r"://[^/\s]+:[^/\s]+@", text), entry["name"]


def _pods_in(found: list[Object], namespace: str, selector: Object) -> Iterator[Object]:
    for owner, template in pods(found):
        if owner["metadata"]["namespace"] == namespace and selects(selector, template["metadata"]["labels"]):
            yield template


def _exists(found: list[Object], namespace: str, selector: Object) -> bool:
    others = any(selects(selector, labels) for labels in OTHERS.get(namespace, []))
    return others or any(True for _ in _pods_in(found, namespace, selector))
