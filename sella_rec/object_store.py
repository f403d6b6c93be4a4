"""S3 and what speaks like it: whose credentials a step uses there, and whether the store answers at all."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from sella_rec.addresses import without_password

# keys of the Secrets for steps
OBJECT_STORE_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")
# stores other than AWS's may not know the checksums that its clients send since 2025
_CHECKSUMS = ("AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION")
# Seconds: to connect, for the answer, and for both with the look-up of the name and of credentials.
CONNECT_SECONDS, ANSWER_SECONDS, FIRST_ACCESS_SECONDS = 5.0, 10.0, 25.0
log = logging.getLogger(__name__)


def use_step_credentials() -> None:
    """Let this process's S3 clients use what the step's Secret holds: `SELLA_AWS_*` becomes `AWS_*`.

    Kubeflow Pipelines' launcher, which starts the step, reads `AWS_*` too: under those names the Secret would send the
    run's own artifacts to the team's store.
    """
    for name in OBJECT_STORE_VARIABLES:
        # an empty value is one that was left out of the Secret
        if value := os.environ.get(f"SELLA_{name}"):
            os.environ[name] = value
    if os.environ.get("SELLA_AWS_ENDPOINT_URL"):
        for name in _CHECKSUMS:
            os.environ.setdefault(name, "when_required")


def check_answers(filesystem: Any, uri: str, error_of: Callable[[str], Exception]) -> None:
    """Ask an S3 store for the bucket of an address, once and briefly: the drivers themselves try for minutes.

    Args:
        filesystem: fsspec's for S3.
        error_of: makes the error from its message.

    Raises:
        Exception: of `error_of`: within 30 s no answer, no credentials to ask with, or no such bucket.
    """
    probe = _impatient(filesystem)
    wrong = _ask(probe, filesystem.split_path(uri)[0])
    if wrong:
        raise error_of(f"{uri}: {wrong}")


def _ask(probe: Any, bucket: str) -> str | None:
    """What keeps a bucket from being used, and the fix."""
    from botocore.exceptions import BotoCoreError, NoCredentialsError, PartialCredentialsError
    from fsspec.asyn import sync

    try:
        sync(probe.loop, probe._call_s3, "head_bucket", Bucket=bucket, timeout=FIRST_ACCESS_SECONDS)
    except (NoCredentialsError, PartialCredentialsError):
        fix = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY have to be set (in a cluster: in the step's Secret)"
        return f"no credentials for {_address(probe)}: {fix}"
    # of s3fs and of fsspec, which come with no text
    except TimeoutError:
        return f"no answer from {_address(probe)} within {FIRST_ACCESS_SECONDS:.0f} s. {_fix(probe)}"
    except (BotoCoreError, ConnectionError, ValueError) as error:
        return f"no answer from {_address(probe)}: {without_password(str(error))}. {_fix(probe)}"
    except FileNotFoundError:
        return f"there is no bucket {bucket!r} at {_address(probe)}. {_fix(probe)}"
    except OSError as error:
        # an answer: who may not ask for the bucket may still use what is in it
        log.warning("%s answers about bucket %s: %s. %s", _address(probe), bucket, error, _fix(probe))
    return None


def _impatient(filesystem: Any) -> Any:
    """The same store's client with short time limits and without second attempts."""
    limits = {"connect_timeout": CONNECT_SECONDS, "read_timeout": ANSWER_SECONDS, "retries": {"max_attempts": 0}}
    options = {**filesystem.storage_options, "config_kwargs": limits, "skip_instance_cache": True}
    probe = type(filesystem)(**options)
    probe.retries = 1
    return probe


def _address(probe: Any) -> str:
    """Where the client goes to."""
    given = probe._s3.meta.endpoint_url if probe._s3 else os.environ.get("AWS_ENDPOINT_URL", "AWS")
    return without_password(given)


def _fix(probe: Any) -> str:
    host = urlsplit(_address(probe)).hostname or ""
    if not host.endswith((".amazonaws.com", ".amazonaws.com.cn")):
        return "AWS_ENDPOINT_URL names the store: is it right, may this host reach it, and is the store running?"
    if probe.session.get_config_variable("region") is None:
        return (
            "That is AWS's own address, which is taken where neither AWS_ENDPOINT_URL nor AWS_DEFAULT_REGION is set: "
            "set the first for a store of your own, the second for AWS (in a cluster: in the step's Secret)"
        )
    return "That is AWS's own address: a store of your own is named by AWS_ENDPOINT_URL (in the step's Secret)"
