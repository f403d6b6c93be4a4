"""The connection to a cluster's Kubeflow Pipelines API, and how to fix what it refuses."""

from __future__ import annotations

import io
import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

import kfp
from kfp_server_api import ApiException, V2beta1GetHealthzResponse
from urllib3.exceptions import HTTPError

from sella_rec.errors import UserError

log = logging.getLogger(__name__)
_TIMEOUT = (10, 60)  # seconds to connect, and to wait for an answer
_FIXES = {
    401: "the token is missing or has expired: set KFP_EXISTING_TOKEN or give --token",
    403: "the token's user is not allowed to do this: ask for a role in the namespace, or give another --namespace",
    409: "somebody else has just created one of this name: run the command again",
}


class ClusterError(UserError):
    """The cluster cannot be reached, or refuses; the message is for the user and says what to do.

    Attributes:
        passing: a later request may succeed without a change.
    """

    def __init__(self, message: str, passing: bool = False) -> None:
        super().__init__(message)
        self.passing = passing


class _Client(kfp.Client):
    def get_kfp_healthz(self, sleep_duration: int = 0) -> V2beta1GetHealthzResponse:
        """Ask once: kfp asks five times, with a traceback for each, before it says that a token is wrong."""
        health, _, headers = self._healthz_api.healthz_service_get_healthz_with_http_info(_request_timeout=_TIMEOUT)
        if "json" not in headers.get("Content-Type", ""):
            raise ClusterError(
                "the endpoint answers, but not as Kubeflow Pipelines does; for a log-in page, set KFP_EXISTING_TOKEN"
            )
        return health


@dataclass(frozen=True)
class KfpConnection:
    """A Kubeflow Pipelines API that answers.

    Attributes:
        api: kfp's client; what it raises is told to users by `asking`.
        endpoint: its address.
        namespace: Kubernetes namespace of the runs; none on an installation without users (single-user mode).
        ui: address of the pages for people, if it is known.
    """

    api: kfp.Client
    endpoint: str
    namespace: str | None
    ui: str | None

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Turn what goes wrong within into ClusterError."""
        with _clear_errors(self.endpoint):
            yield

    def pod_log(self, pod: str) -> str | None:
        """What a pod's main container printed, from the UI's server; none where that does not have it."""
        query = [("podname", pod), *([("podnamespace", self.namespace)] if self.namespace else [])]
        client = self.api._run_api.api_client
        try:
            with self.asking():
                answer = client.call_api(
                    "/k8s/pod/logs",
                    "GET",
                    query_params=query,
                    header_params={},
                    auth_settings=["Bearer"],
                    _return_http_data_only=True,
                    _preload_content=False,
                    _request_timeout=_TIMEOUT,
                    _host=self.ui,
                )
        except ClusterError as error:
            log.info("no log of %s: %s", pod, error)
            return None
        return answer.data.decode(errors="replace")

    def run_link(self, run_id: str) -> str | None:
        """Address of a run's page, where the UI's is known."""
        return f"{self.ui}/#/runs/details/{run_id}" if self.ui else None


def connect(endpoint: str | None = None, namespace: str | None = None, token: str | None = None) -> KfpConnection:
    """Find the API by the arguments, else as kfp does: KF_PIPELINES_ENDPOINT, the pod's own cluster, kubeconfig.

    Without a namespace, it is that of kfp's own settings (`~/.config/kfp/context.json`) or, in a pod, the pod's.

    Raises:
        ClusterError: no endpoint is known, it cannot be reached, refuses the token or is not Kubeflow Pipelines.
    """
    endpoint = endpoint or os.environ.get("KF_PIPELINES_ENDPOINT")
    if endpoint is None and not _in_a_cluster_or_configured():
        raise ClusterError(
            "no Kubeflow Pipelines endpoint: give --endpoint, set KF_PIPELINES_ENDPOINT, or provide a kubeconfig"
        )
    # a failed connection is told by the error, once
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    shown = endpoint or "the API behind the kubeconfig"
    with _clear_errors(shown):
        api = _Client(host=endpoint, existing_token=token)
        api.get_kfp_healthz()
    ui = os.environ.get("KF_PIPELINES_UI_ENDPOINT") or endpoint
    return KfpConnection(api, shown, namespace or api.get_user_namespace() or None, ui.rstrip("/") if ui else None)


def filtered(key: str, value: str) -> str:
    """The API's filter for what has exactly this value."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": key, "stringValue": value}]})


def named(name: str) -> str:
    """The API's filter for what is called exactly so."""
    return filtered("display_name", name)


def _in_a_cluster_or_configured() -> bool:
    from kubernetes import config

    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return True
    try:
        config.list_kube_config_contexts()
    except config.ConfigException:
        return False
    return True


@contextmanager
def _clear_errors(endpoint: str) -> Iterator[None]:
    try:
        # kfp prints links
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            # that the client is made for version 2
            warnings.simplefilter("ignore", FutureWarning)
            yield
    except ApiException as error:
        raise ClusterError(_explain(endpoint, error), passing=(error.status or 0) >= 500) from error
    except HTTPError as error:
        reason = getattr(error, "reason", None) or error
        raise ClusterError(f"cannot reach {endpoint}: {reason}", passing=True) from error


def _explain(endpoint: str, error: ApiException) -> str:
    if not error.status:
        return f"cannot reach {endpoint}: {error.reason}"
    said = _message(error.body) or error.reason
    fix = _FIXES.get(error.status)
    return f"{endpoint} answered {error.status}: {said}" + (f"\n{fix}" if fix else "")


def _message(body: Any) -> str | None:
    try:
        answer = json.loads(body)
    except (TypeError, ValueError):
        return None
    return (answer.get("message") or answer.get("error")) if isinstance(answer, dict) else None
