"""The part of the Kubeflow Pipelines API that `sella` uses, over HTTP, with its state in memory.

It answers as version 2.17.0 was seen to on Kubernetes; `kfp_scheduler` plays the controller that starts recurring runs.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes
from http.server import ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kfp_server_api as models
import yaml

from tests.fakes.api import ApiHandler, RefusedError, refuse_as_told

_wire = models.ApiClient()
_BODIES = {
    "experiments": models.V2beta1Experiment,
    "pipelines": models.V2beta1Pipeline,
    "runs": models.V2beta1Run,
    "recurringruns": models.V2beta1RecurringRun,
}
_IDS = {
    "experiments": "experiment_id",
    "pipelines": "pipeline_id",
    "versions": "pipeline_version_id",
    "runs": "run_id",
    "recurringruns": "recurring_run_id",
}
_LISTS = {
    "experiments": (models.V2beta1ListExperimentsResponse, "experiments"),
    "pipelines": (models.V2beta1ListPipelinesResponse, "pipelines"),
    "versions": (models.V2beta1ListPipelineVersionsResponse, "pipeline_versions"),
    "runs": (models.V2beta1ListRunsResponse, "runs"),
    "recurringruns": (models.V2beta1ListRecurringRunsResponse, "recurring_runs"),
}


@dataclass
class State:
    """What the server holds, and what it was asked.

    Attributes:
        kept: objects by kind and id.
        uploads: bytes of the uploaded versions, by name.
        contents: the same by id.
        requests: method and path of each, in order, reads included.
        token: what clients must show, if anything.
        refusals: (method and path, status) to answer instead, once each.
        on_read: called with a run before it is shown; it may change it.
        content_type: of all answers.
        pod_logs: what the UI's server has, by pod.
        page_size: most objects in one list, whatever is asked for.
        multi_user: whether requests may name a namespace; without users, KFP's own is only ever in answers.
        mlflow_plugin: whether KFP's MLflow plug-in is on.
        now: the server's time; none: the real one.
        workflows: ids of the runs whose Argo workflow is there: a run changes its state only while it is.
    """

    kept: dict[str, dict[str, Any]] = field(default_factory=lambda: {kind: {} for kind in _IDS})
    uploads: dict[str, bytes] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    token: str | None = None
    refusals: list[tuple[str, int]] = field(default_factory=list)
    on_read: Callable[[Any], None] = lambda run: None
    content_type: str = "application/json"
    page_size: int = 100
    pod_logs: dict[str, str] = field(default_factory=dict)
    multi_user: bool = False
    mlflow_plugin: bool = False
    now: datetime | None = None
    workflows: set[str] = field(default_factory=set)
    _made: int = 0

    def all(self, kind: str) -> list[Any]:
        return list(self.kept[kind].values())

    def writes(self) -> list[str]:
        return [request for request in self.requests if not request.startswith("GET")]

    def time(self) -> datetime:
        return self.now or datetime.now(UTC)

    def keep(self, kind: str, made: Any) -> Any:
        self._made += 1
        identity = f"{kind}-{self._made}"
        setattr(made, _IDS[kind], identity)
        made.created_at = self.time()
        self.kept[kind][identity] = made
        return made

    def create_run(self, run: models.V2beta1Run) -> models.V2beta1Run:
        """CreateRun: of the named version, or of the pipeline's newest; a parameter without a value is refused."""
        version = self._version(run.pipeline_version_reference)
        given = (run.runtime_config.parameters if run.runtime_config else None) or {}
        specification = next(iter(yaml.load_all(self.contents[version.pipeline_version_id], yaml.CSafeLoader)))
        known = specification.get("root", {}).get("inputDefinitions", {}).get("parameters", {})
        for name in sorted(known):
            if name not in given and "defaultValue" not in known[name] and not known[name].get("isOptional"):
                raise RefusedError(
                    400,
                    f"parameter {name} is not optional, yet has neither default value nor user provided value",
                )
        run.pipeline_version_reference = _reference(version)
        run.state = "PENDING"
        self.keep("runs", run)
        run.scheduled_at = run.created_at
        self.workflows.add(run.run_id)
        return run

    def create_recurring_run(self, made: models.V2beta1RecurringRun) -> models.V2beta1RecurringRun:
        if made.namespace and not self.multi_user:
            raise RefusedError(400, "in single-user mode, a recurring run cannot contain a namespace")
        self._version(made.pipeline_version_reference)
        made.namespace = made.namespace or "kubeflow"
        made.status = "ENABLED" if made.mode == "ENABLE" else "DISABLED"
        return self.keep("recurringruns", made)

    def delete(self, kind: str, identity: str) -> None:
        del self.kept[kind][identity]
        # they belong to the recurring run by owner references; the API keeps the state that they were in
        owned = {run.run_id for run in self.all("runs") if run.recurring_run_id == identity}
        self.workflows -= owned

    def end_run(self, run: models.V2beta1Run, state: str) -> None:
        """The workflow ends; without one, nobody tells the API."""
        if run.run_id in self.workflows:
            run.state, run.finished_at = state, self.time()

    def newest_version(self, pipeline_id: str) -> models.V2beta1PipelineVersion:
        versions = [version for version in self.all("versions") if version.pipeline_id == pipeline_id]
        if not versions:
            raise RefusedError(400, "the pipeline has no version")
        return versions[-1]

    def _version(self, reference: models.V2beta1PipelineVersionReference | None) -> models.V2beta1PipelineVersion:
        if reference is None or reference.pipeline_id not in self.kept["pipelines"]:
            raise RefusedError(400, "no such pipeline")
        if not reference.pipeline_version_id:
            return self.newest_version(reference.pipeline_id)
        if reference.pipeline_version_id not in self.kept["versions"]:
            raise RefusedError(400, "no such pipeline version")
        return self.kept["versions"][reference.pipeline_version_id]


@contextmanager
def serve() -> Iterator[tuple[str, State]]:
    """Address and state of a server that lives as long as the context."""
    state = State()
    handler = type("Handler", (_Handler,), {"state": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", state
    finally:
        server.shutdown()
        server.server_close()


class _Handler(ApiHandler):
    state: State
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            status, said = 200, self._act(body)
        except RefusedError as refused:
            status, said = refused.status, {"error": str(refused), "message": str(refused), "code": 0}
        content = said if isinstance(said, bytes) else json.dumps(_wire.sanitize_for_serialization(said)).encode()
        self.send(status, content, self.state.content_type)

    def _act(self, body: bytes) -> Any:
        url = urlsplit(self.path)
        # before it, a proxy's prefix
        asked = f"{self.command} {url.path.partition('/apis/v2beta1')[2] or url.path}"
        self.state.requests.append(asked)
        refuse_as_told(self.state.refusals, asked)
        if self.state.token and self.headers.get("authorization") != f"Bearer {self.state.token}":
            raise RefusedError(401, "Request header error: there is no user identity header.")
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if asked == "GET /healthz":
            return models.V2beta1GetHealthzResponse(multi_user=self.state.multi_user)
        if asked == "GET /k8s/pod/logs":
            if query["podname"] not in self.state.pod_logs:
                raise RefusedError(404, "pod not found")
            return self.state.pod_logs[query["podname"]].encode()
        if asked == "POST /pipelines/upload_version":
            return self._upload(query, body)
        if terminated := re.fullmatch(r"POST /runs/([^/]+):terminate", asked):
            self.state.kept["runs"][terminated[1]].state = "CANCELING"
            return {}
        match = re.fullmatch(r"(?:/pipelines/(?P<owner>[^/]+))?/(?P<kind>\w+)(?:/(?P<id>[^/]+))?", asked.split()[1])
        if match is None or match["kind"] not in _IDS:
            raise RefusedError(404, f"no such method: {asked}")
        return self._stored(match["kind"], match["id"], query | {"owner": match["owner"]}, body)

    def _stored(self, kind: str, identity: str | None, query: dict[str, Any], body: bytes) -> Any:
        if identity is None:
            return self._list(kind, query) if self.command == "GET" else self._create(kind, body)
        if identity not in self.state.kept[kind]:
            raise RefusedError(404, f"{kind} {identity} not found")
        if self.command == "DELETE":
            self.state.delete(kind, identity)
            return {}
        found = self.state.kept[kind][identity]
        if kind == "runs":
            if found.state == "CANCELING":
                self.state.end_run(found, "CANCELED")
            self.state.on_read(found)
        return found

    def _create(self, kind: str, body: bytes) -> Any:
        made = _parse(body, _BODIES[kind])
        if kind not in ("runs", "recurringruns"):
            return self.state.keep(kind, made)
        if made.experiment_id not in self.state.kept["experiments"]:
            raise RefusedError(400, "no such experiment")
        return self.state.create_run(made) if kind == "runs" else self.state.create_recurring_run(made)

    def _upload(self, query: dict[str, str], body: bytes) -> Any:
        if query["pipelineid"] not in self.state.kept["pipelines"]:
            raise RefusedError(400, "no such pipeline")
        taken = {each.display_name for each in self.state.all("versions") if each.pipeline_id == query["pipelineid"]}
        if query["name"] in taken:
            raise RefusedError(409, f"the version {query['name']} already exists")
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        (part,) = message_from_bytes(head + body).get_payload()
        version = models.V2beta1PipelineVersion(pipeline_id=query["pipelineid"], display_name=query["name"])
        self.state.keep("versions", version)
        content = part.get_payload(decode=True)
        self.state.uploads[query["name"]] = self.state.contents[version.pipeline_version_id] = content
        return version

    def _list(self, kind: str, query: dict[str, Any]) -> Any:
        found = [each for each in self.state.all(kind) if _matches(each, query)]
        if query.get("sort_by") == "created_at desc":
            found.reverse()
        first = int(query.get("page_token", 0))
        last = first + min(int(query.get("page_size", 10)), self.state.page_size)
        token = str(last) if last < len(found) else None
        model, name = _LISTS[kind]
        return model(**{name: found[first:last], "total_size": len(found), "next_page_token": token})


def _reference(version: models.V2beta1PipelineVersion) -> models.V2beta1PipelineVersionReference:
    return models.V2beta1PipelineVersionReference(version.pipeline_id, version.pipeline_version_id)


def _matches(each: Any, query: dict[str, Any]) -> bool:
    owned = {"experiment_id": query.get("experiment_id"), "pipeline_id": query["owner"]}
    predicates = json.loads(query.get("filter", "{}")).get("predicates", [])
    assert all(predicate["operation"] in ("EQUALS", 1) for predicate in predicates)
    wanted = owned | {predicate["key"]: predicate["stringValue"] for predicate in predicates}
    return all(value is None or getattr(each, key) == value for key, value in wanted.items())


def _parse(body: bytes, model: type) -> Any:
    unknown = set(json.loads(body)) - set(model.attribute_map.values())
    if unknown:
        raise RefusedError(400, f"unknown fields: {sorted(unknown)}")
    return _wire.deserialize(SimpleNamespace(data=body.decode()), model.__name__)
