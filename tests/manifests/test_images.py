"""Images by tag and digest: which are pinned, which are left to whoever applies the manifests, and the script."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.manifests.overlays import BUILT, MANIFESTS, OVERLAYS, VARIANTS, containers, objects, of_kind

KUSTOMIZE = os.environ.get("SELLA_KUSTOMIZE")
LISTED = MANIFESTS / "components" / "images" / "kustomization.yaml"
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
FAKE = "sha256:" + "0123456789abcdef" * 4


def entries(path: Path = LISTED) -> dict[str, dict[str, str]]:
    return {entry["name"]: entry for entry in yaml.safe_load(path.read_text())["images"]}


def to_be_pinned() -> set[str]:
    """As docs/operations.md lists them."""
    text = (MANIFESTS.parent / "docs" / "operations.md").read_text()
    (listed,) = re.findall(r"To be pinned by whoever applies the manifests: (.*?)\.\s", text, re.DOTALL)
    return set(re.findall(r"`([^`]+)`", listed))


def test_every_image_is_listed_once_and_pinned_or_said_to_be_left():
    used = set()
    for overlay in [*OVERLAYS, *VARIANTS]:
        for name, container, _ in containers(objects(overlay)):
            image, _, digest = container["image"].partition("@")
            image, _, tag = image.rpartition(":")
            assert image in entries(), f"{name}: {image} is not in {LISTED}"
            assert entries()[image]["newTag"] == tag, name
            assert not digest or DIGEST.fullmatch(digest), name
            used.add(image)
    assert used == set(entries())
    assert {name for name, entry in entries().items() if "digest" not in entry} == to_be_pinned()


def test_every_overlay_and_every_way_to_serve_takes_them_from_the_list():
    for folder in [*(MANIFESTS / "overlays").iterdir(), *(MANIFESTS / "serving").iterdir()]:
        components = yaml.safe_load((folder / "kustomization.yaml").read_text())["components"]
        assert (folder / components[-1]).resolve() == LISTED.parent, folder


@pytest.fixture
def manifests(tmp_path, monkeypatch):
    """A copy, and a registry's client that knows the images of postgres and of ours at their registry."""
    copy = tmp_path / "manifests"
    shutil.copytree(MANIFESTS, copy)
    client = tmp_path / "bin" / "skopeo"
    client.parent.mkdir()
    client.write_text(
        "#!/bin/sh\n"
        'case "$4" in\n'
        f"docker://postgres:17.6|docker://registry.example.com/*:1.4.2) echo {FAKE} ;;\n"
        "*) echo manifest unknown >&2; exit 1 ;;\n"
        "esac\n"
    )
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{client.parent}:{os.environ['PATH']}")
    return copy


def pin(manifests: Path, *names: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(manifests / "pin-digests"), *names]
    return subprocess.run(command, capture_output=True, text=True)


def test_digests_are_written_beside_tags_all_or_none(manifests):
    file = manifests / "components" / "images" / "kustomization.yaml"
    before = file.read_text()
    refused = pin(manifests)
    assert refused.returncode == 1
    assert "sella-rec:0.1.0: no digest from skopeo: manifest unknown" in refused.stderr
    assert file.read_text() == before
    for _ in range(2):
        assert pin(manifests, "postgres").stdout == f"postgres:17.6@{FAKE}\n"
        assert entries(file)["postgres"] == {"name": "postgres", "newTag": "17.6", "digest": FAKE}
    assert {name: entry for name, entry in entries(file).items() if name != "postgres"} == {
        name: entry for name, entry in entries().items() if name != "postgres"
    }
    assert "mysql: not in" in pin(manifests, "mysql").stderr


def test_an_image_of_a_registry_of_ones_own_is_asked_for_there(manifests):
    file = manifests / "components" / "images" / "kustomization.yaml"
    own = '    newName: registry.example.com/sella-rec-serve\n    newTag: "1.4.2"\n'
    file.write_text(
        file.read_text().replace('- name: sella-rec-serve\n    newTag: "0.1.0"\n', f"- name: sella-rec-serve\n{own}")
    )
    done = pin(manifests, "sella-rec-serve")
    assert done.stdout == f"registry.example.com/sella-rec-serve:1.4.2@{FAKE}\n", done.stderr
    assert entries(file)["sella-rec-serve"]["digest"] == FAKE
    # as `kustomize edit` would leave it
    file.write_text(file.read_text().replace("  - name: postgres\n    newTag", "  - newTag: x\n    name"))
    assert "each image needs the lines" in pin(manifests).stderr


@pytest.mark.skipif(not KUSTOMIZE, reason="needs kustomize: .ci/manifests")
def test_what_is_pinned_is_what_is_applied(manifests):
    file = manifests / "components" / "images" / "kustomization.yaml"
    file.write_text(re.sub(r"(    newTag: .*\n)", rf"\1    digest: {FAKE}\n", file.read_text()))
    overlay = manifests / "overlays" / "local-kind"
    subprocess.run([str(manifests / "make-secrets"), str(overlay)], check=True, capture_output=True)
    text = (overlay / "kustomization.yaml").read_text()
    # behind the list: an overlay's order does not matter
    (overlay / "kustomization.yaml").write_text(
        text.replace("../../components/images\n", "../../components/images\n  - ../../serving/deployment\n")
    )
    built = subprocess.run([str(KUSTOMIZE), "build", str(overlay)], check=True, capture_output=True, text=True).stdout
    images = re.findall(r"\bimage: (\S+)", built)
    assert len(images) == 5
    assert all(re.fullmatch(rf"[\w/-]+:[\d.]+@{FAKE}", image) for image in images)


@pytest.mark.skipif(not BUILT, reason="needs what kustomize built: .ci/manifests")
def test_a_private_registry_is_every_accounts():
    accounts = of_kind(objects("local-kind-private-registry"), "ServiceAccount")
    assert len(accounts) >= 4
    assert all(account["imagePullSecrets"] == [{"name": "sella-rec-registry"}] for account in accounts)
