"""What is waited for and what is not, asked of the clients themselves against servers of loopback."""

import os
import subprocess
import sys
import textwrap
import threading
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest
import requests
from kubernetes.client import ApiClient, ApiException, Configuration, CoreV1Api

from sella_rec.files import open_store
from sella_rec.transient import STEP_PATIENCE, PatientStore, be_patient, is_transient, retrying
from tests.fakes import hub as fake_hub
from tests.fakes.api import ApiHandler

ROOT = Path(__file__).parents[2]
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def patient(monkeypatch):
    """As in a step."""
    for name in ("SELLA_PATIENCE", "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR"):
        monkeypatch.setenv(name, "")  # what be_patient sets is taken back after the test
        monkeypatch.delenv(name)
    be_patient()


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self):
        self.now, self.pauses = 0.0, []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds


@contextmanager
def serving(answer):
    """A server whose requests are `answer(handler)`; its address."""
    asked = []

    class Handler(ApiHandler):
        def answer(self):
            asked.append(self.path)
            answer(self, asked)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def raised_by(work):
    try:
        work()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def until(clock, end):
    """Work that fails until a time of the clock; how often it was done."""
    tries = []

    def work():
        tries.append(clock.now)
        if clock.now < end:
            raise ConnectionRefusedError("nobody there")
        return "done"

    return work, tries


@pytest.mark.usefixtures("patient")
def test_an_outage_of_a_quarter_of_an_hour_is_bridged_with_pauses_of_a_minute_at_most():
    clock = Clock()
    work, tries = until(clock, STEP_PATIENCE)
    assert retrying(work, clock.sleep, clock) == "done"
    assert len(tries) > 10
    assert clock.pauses[0] <= 1
    assert max(clock.pauses) <= 60
    assert tries[3] < 10, "a blip is over soon"


@pytest.mark.usefixtures("patient")
def test_a_longer_outage_ends_in_the_works_own_error():
    clock = Clock()
    work, tries = until(clock, 10 * STEP_PATIENCE)
    with pytest.raises(ConnectionRefusedError, match="nobody there"):
        retrying(work, clock.sleep, clock)
    assert STEP_PATIENCE <= tries[-1] <= STEP_PATIENCE + 60


def test_a_command_does_not_wait():
    clock = Clock()
    work, tries = until(clock, 1)
    with pytest.raises(ConnectionRefusedError):
        retrying(work, clock.sleep, clock)
    assert len(tries) == 1


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("error", [PermissionError("no"), FileNotFoundError("no"), ValueError("no"), KeyError("no")])
def test_what_does_not_pass_is_not_tried_again(error):
    clock, tries = Clock(), []

    def work():
        tries.append(1)
        raise error

    with pytest.raises(type(error)):
        retrying(work, clock.sleep, clock)
    assert len(tries) == 1


STATUSES = [(429, True), (500, True), (502, True), (503, True), (400, False), (401, False), (403, False), (404, False)]


@pytest.mark.parametrize(("status", "passes"), STATUSES)
def test_answers_that_pass_by_themselves_are_told_by_their_status(status, passes):
    with serving(lambda handler, _: handler.send(status, b"{}")) as (address, _):
        asked = raised_by(lambda: requests.get(address, timeout=5).raise_for_status())
        kubernetes = ApiClient(Configuration(host=address))
        refused = raised_by(lambda: CoreV1Api(kubernetes).read_namespaced_pod("a", "b"))
    assert isinstance(refused, ApiException)
    assert is_transient(asked) == is_transient(refused) == passes


def test_no_connection_passes_by_itself_and_an_address_that_is_none_does_not():
    assert is_transient(raised_by(lambda: requests.get(NOBODY, timeout=5)))
    assert is_transient(raised_by(lambda: requests.get("http://no-such-host.invalid", timeout=5)))
    assert not is_transient(raised_by(lambda: requests.get("http://[", timeout=5)))


def in_botocore(name, base):
    """An error of a package that only the images hold, under its name there."""
    return type(name, (base,), {"__module__": "botocore.exceptions"})


def test_the_errors_of_s3fs_are_told_by_what_the_store_answered():
    boto = in_botocore("BotoCoreError", Exception)
    refused = in_botocore("EndpointConnectionError", in_botocore("ConnectionError", boto))
    assert is_transient(refused("Could not connect to the endpoint URL"))
    assert is_transient(in_botocore("ReadTimeoutError", in_botocore("HTTPClientError", boto))("slow"))
    assert not is_transient(in_botocore("NoCredentialsError", boto)("Unable to locate credentials"))
    # as s3fs translates them
    for status, passes in ((503, True), (500, True), (403, False), (404, False)):
        answer = in_botocore("ClientError", Exception)("told")
        answer.response = {"Error": {"Code": str(status)}, "ResponseMetadata": {"HTTPStatusCode": status}}
        translated = OSError(5, "told")
        translated.__cause__ = answer
        assert is_transient(translated) == passes


@pytest.mark.usefixtures("patient")
def test_every_call_to_a_store_is_tried_again_and_a_file_is_read_on_from_where_it_broke_off(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(retrying, "__defaults__", (clock.sleep, clock))
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/bucket/data.csv", b"0123456789")
    store, path = open_store("memory://bucket/data.csv", ValueError)
    failing = iter([True, True, True, False, True, False, False])

    def flaky(call):
        def sometimes(*args, **kwargs):
            if next(failing, False):
                raise ConnectionResetError("away")
            return call(*args, **kwargs)

        return sometimes

    monkeypatch.setattr(memory, "info", flaky(memory.info))
    # fsspec's own takes a store that does not answer for one that lacks the file
    assert not fsspec.AbstractFileSystem.isfile(memory, path)
    assert store.isfile(path)
    with store.open(path, "rb") as file:
        assert isinstance(file, PatientStore)
        file._wrapped.read = flaky(file._wrapped.read)
        assert file.read(4) + file.read(6) == b"0123456789"
    assert len(clock.pauses) == 3
    monkeypatch.undo()
    assert (store.isdir("/bucket"), store.exists(path), store.exists("/none")) == (True, True, False)
    memory.rm("/bucket", recursive=True)


@pytest.mark.usefixtures("patient")
def test_mlflows_client_waits_a_quarter_of_an_hour(monkeypatch):
    from mlflow import MlflowClient, MlflowException

    clock = Clock()
    monkeypatch.setattr("urllib3.util.retry.time.sleep", clock.sleep)
    with pytest.raises(MlflowException, match="refused"):
        MlflowClient(NOBODY).search_experiments(max_results=1)
    assert clock.now >= STEP_PATIENCE
    with serving(lambda handler, _: handler.send(503, b"{}")) as (address, asked):
        clock.now = 0
        with pytest.raises(MlflowException):
            MlflowClient(address).search_experiments(max_results=1)
    assert clock.now >= STEP_PATIENCE
    assert len(asked) > 5


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_mlflows_client_does_not_repeat_what_was_refused(monkeypatch, status):
    from mlflow import MlflowClient, MlflowException

    clock = Clock()
    monkeypatch.setattr("urllib3.util.retry.time.sleep", clock.sleep)
    with serving(lambda handler, _: handler.send(status, b"{}")) as (address, asked):
        with pytest.raises(MlflowException):
            MlflowClient(address).get_run("1")
        assert len([path for path in asked if "runs/get" in path]) == 1
    assert not clock.pauses


@pytest.mark.usefixtures("patient")
def test_an_artifact_is_sent_and_fetched_through_an_outage(monkeypatch, tmp_path):
    import mlflow
    from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository

    clock, stored = Clock(), {}
    monkeypatch.setattr("urllib3.util.retry.time.sleep", clock.sleep)
    monkeypatch.setattr(retrying, "__defaults__", (clock.sleep, clock))

    def answer(handler, asked):
        name = handler.path.rpartition("/")[2]
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        if "?" in name or handler.path.endswith("server-info"):
            handler.send(200, b'{"files": []}')
        elif len([path for path in asked if path == handler.path]) in (1, 2, 3, 5):
            if handler.command == "PUT":
                handler.send(503, b"{}")
            else:
                handler.send_response(200)
                handler.send_header("Content-Length", "100")
                handler.end_headers()
                handler.wfile.write(b"broken off")
                handler.close_connection = True
        elif handler.command == "PUT":
            stored[name] = body
            handler.send(200, b"{}")
        else:
            handler.send(200, stored[name])

    content = bytes(range(256)) * 50
    (tmp_path / "weights").write_bytes(content)
    with serving(answer) as (address, asked):
        place = f"{address}/api/2.0/mlflow-artifacts/artifacts"
        HttpArtifactRepository(place).log_artifact(str(tmp_path / "weights"))
        assert stored == {"weights": content}
        asked.clear()

        def fetch():
            return mlflow.artifacts.download_artifacts(artifact_uri=f"{place}/weights", dst_path=str(tmp_path / "back"))

        assert Path(retrying(fetch)).read_bytes() == content


LOAD = """
    import sys, time
    time.sleep = lambda seconds: None
    from sella_rec.config import BackboneConfig
    from sella_rec.llm.backbone import BackboneError, load_backbone
    try:
        llm, tokenizer = load_backbone(BackboneConfig(name=sys.argv[1], dtype="float32", device="cpu"))
        print("loaded", tokenizer.encode("Yes"), sum(p.numel() for p in llm.parameters()))
    except BackboneError as error:
        print("refused", error)
"""


def load_from_hub(hub, name, tmp_path):
    with fake_hub.serve(hub) as address:
        environment = os.environ | {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "hf"), "SELLA_PATIENCE": "900"}
        environment |= {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
        command = [sys.executable, "-c", textwrap.dedent(LOAD), name]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_a_hub_that_is_away_for_each_file_is_waited_for(tiny_backbone, tmp_path):
    # more refusals than its own client bears
    hub = fake_hub.Hub(tiny_backbone, away=8)
    assert load_from_hub(hub, "org/tiny", tmp_path).startswith("loaded")
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        assert hub.requests[f"/org/tiny/resolve/{fake_hub.COMMIT}/{name}"] > 8, name


def test_a_model_that_the_hub_does_not_have_is_told_of_at_once(tiny_backbone, tmp_path):
    hub = fake_hub.Hub(tiny_backbone)
    assert load_from_hub(hub, "org/none", tmp_path).startswith("refused backbone.name = 'org/none' could not be loaded")
    assert sum(count for path, count in hub.requests.items() if "org/none" in path) <= 4
