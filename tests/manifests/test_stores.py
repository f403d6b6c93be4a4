"""Where the overlays' servers and steps find buckets and database, and with what."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from pipeline.resources import CHECKPOINT_STORE_SECRET, OBJECT_STORE_SECRET
from sella_rec.object_store import OBJECT_STORE_VARIABLES
from tests.manifests.overlays import BUILT, MANIFESTS, generators, objects, of_kind


def environment(overlay: str, kind: str, name: str) -> dict[str, str]:
    """What generators of an overlay put into a ConfigMap or Secret; of files, their examples' text."""
    found: dict[str, str] = {}
    for entry in generators(overlay, kind):
        if entry["name"] == name:
            lines = list(entry.get("literals", []))
            for file in entry.get("envs", []):
                lines += (entry["folder"] / f"{file}.example").read_text().splitlines()
            found |= dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    return found


@pytest.mark.parametrize("secret", [OBJECT_STORE_SECRET, CHECKPOINT_STORE_SECRET])
def test_the_steps_of_local_kind_are_sent_to_its_own_store(secret: str):
    given = environment("local-kind", "secretGenerator", secret)
    assert set(given) == set(OBJECT_STORE_VARIABLES)
    (service,) = (e for e in of_kind(objects("local-kind"), "Service") if e["metadata"]["name"] == "object-store")
    # with its namespace, as the steps are in another
    home, port = service["metadata"]["namespace"], service["spec"]["ports"][0]["port"]
    assert given["AWS_ENDPOINT_URL"] == f"http://object-store.{home}:{port}"


@pytest.mark.parametrize("secret", [OBJECT_STORE_SECRET, CHECKPOINT_STORE_SECRET])
def test_the_steps_of_external_are_told_the_region(secret: str):
    assert environment("external", "secretGenerator", secret)["AWS_DEFAULT_REGION"] == "eu-central-1"


def test_the_own_store_takes_more_than_mlflows_bucket():
    settings = environment("local-kind", "configMapGenerator", "mlflow-settings")
    made = settings["CREATE_BUCKETS"].split()
    assert len(made) == 2
    assert settings["ARTIFACTS"].startswith(f"s3://{made[0]}/")
    (server,) = (e for e in of_kind(objects("local-kind"), "Deployment") if e["metadata"]["name"] == "object-store")
    (container,) = server["spec"]["template"]["spec"]["containers"]
    # 0: as many as the disk holds; of SeaweedFS's eight, a first bucket takes seven
    assert re.search(r"-volume\.max=(\d+)", container["args"][0])[1] == "0"


def test_buckets_that_are_there_are_left_alone(monkeypatch):
    source = (MANIFESTS / "base" / "mlflow" / "bootstrap_mlflow.py").read_text()
    # without its imports of a database's client, which only the server's image has
    function = source[source.index("def ensure_buckets") : source.index('if __name__ == "__main__"')]
    created = []

    class Client:
        def list_buckets(self):
            return {"Buckets": [{"Name": "mlflow"}]}

        def create_bucket(self, Bucket):  # noqa: N803
            created.append(Bucket)

    monkeypatch.setitem(sys.modules, "boto3", SimpleNamespace(client=lambda service: Client()))
    scope: dict = {}
    exec(function, scope)
    scope["ensure_buckets"](["mlflow", "sella-rec"])
    assert created == ["sella-rec"]


@pytest.mark.parametrize("overlay", ["external", "gpu"])
def test_the_managed_databases_certificate_is_checked_against_an_authority_that_is_mounted(overlay: str):
    settings = environment(overlay, "configMapGenerator", "mlflow-settings")
    assert settings["PGSSLMODE"] == "verify-full"
    patch = yaml.safe_load((MANIFESTS / "overlays" / "external" / "database-ca.yaml").read_text())
    mounts = [each["value"] for each in patch if "volumeMounts" in each["path"]]
    assert len(mounts) == 2
    (authority,) = (e for e in generators(overlay, "configMapGenerator") if e["name"] == "database-ca")
    (file,) = authority["files"]
    assert all(f"{m['mountPath']}/{file.partition('=')[0]}" == settings["PGSSLROOTCERT"] for m in mounts)
    if BUILT:
        (server,) = (e for e in of_kind(objects(overlay), "Deployment") if e["metadata"]["name"] == "mlflow")
        pod = server["spec"]["template"]["spec"]
        for container in pod["initContainers"] + pod["containers"]:
            assert "/etc/ssl/database" in [mount["mountPath"] for mount in container["volumeMounts"]]


def test_make_secrets_says_what_is_left_to_do_and_keeps_what_is_there(tmp_path: Path):
    folder = tmp_path / "external"
    (folder / "secrets").mkdir(parents=True)
    for example in (MANIFESTS / "overlays" / "external" / "secrets").glob("*.example"):
        (folder / "secrets" / example.name).write_text(example.read_text())
    command = [str(MANIFESTS / "make-secrets"), str(folder)]
    first = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"{folder}/secrets/database-ca.crt: missing. Put here" in first
    assert f"{folder}/secrets/database.env: fill in PGPASSWORD" in first
    (folder / "secrets" / "database-ca.crt").write_text("a certificate")
    before = (folder / "secrets" / "mlflow.env").read_text()
    second = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "database-ca.crt" not in second
    assert (folder / "secrets" / "mlflow.env").read_text() == before
    assert (folder / "secrets" / "mlflow.env").stat().st_mode & 0o077 == 0
