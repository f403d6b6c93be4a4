"""Who is champion: compare-and-set of the alias, over a log of promotions that MLflow keeps in order.

MLflow sets an alias unconditionally. What it does atomically, on every store, is to number the versions of a registered
model. So the versions of `<name>-promotions` are a log: each requests to replace version `base` by version `to`, and is
granted if `base` is what the last granted one before it set. Every reader of the log comes to the same verdict at any
time; there is no lock to expire, and no clock. The aliases show what the log says.

Guarantees: of all requests with the same base, exactly one is granted. A process killed between its entry and the
alias leaves an entry that the next reader publishes. An alias moved by hand is entered into the log when it is next
read. What is not excluded: a process that sleeps between its entry and the alias while others promote may set the
alias back for a moment; it repairs that when it wakes up, or else it counts as moved by hand.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sella_rec.tracking.registry import CHAMPION, PREVIOUS, ModelVersion, RegistryError, find, get_version

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion as RegisteredVersion

_BASE, _TO, _TOKEN, _PUBLISHED = "sella.base", "sella.to", "sella.token", "sella.published"


@dataclass(frozen=True)
class Promotion:
    """A granted entry of the log.

    Attributes:
        number: its place in the log.
        base, to: numbers of versions; empty: none.
        token: of the request, since a retried one may arrive twice.
        published: the aliases have been set.
    """

    number: int
    base: str
    to: str
    token: str
    published: bool


def find_champion(client: MlflowClient, name: str) -> ModelVersion | None:
    """The champion, after log and alias have been reconciled."""
    number = _settle(client, name)
    return get_version(client, name, number) if number else None


def require_champion(client: MlflowClient, name: str) -> ModelVersion:
    """The champion.

    Raises:
        RegistryError: there is none.
    """
    found = find_champion(client, name)
    if found is None:
        raise RegistryError(f"{name} has no champion: make a version champion with `sella promote VERSION`")
    return found


def replace_champion(client: MlflowClient, name: str, base: str, to: str, reason: str) -> bool:
    """Make version `to` champion and `base` previous, if `base` is still champion.

    Args:
        name: of the registered model.
        base: number of the version that the decision was made against; empty: none.
        to: number of an existing version.
        reason: shown in the log.

    Returns:
        Whether `to` is champion now; also true if it was before, as when a killed step is retried.
    """
    champion = _settle(client, name)
    if champion != base:
        return champion == to
    token = _append(client, name, base, to, reason)
    granted = promotions(client, name)
    if token not in {promotion.token for promotion in granted}:
        return False
    _publish(client, name, granted[-1])
    return True


def promotions(client: MlflowClient, name: str) -> list[Promotion]:
    """All that were granted, in order."""
    granted: list[Promotion] = []
    for entry in _entries(client, name):
        if entry.base == (granted[-1].to if granted else ""):
            granted.append(entry)
    return granted


def _entries(client: MlflowClient, name: str) -> list[Promotion]:
    found: list[RegisteredVersion] = []
    page: str | None = None
    while page != "":
        versions = client.search_model_versions(f"name = '{_log_of(name)}'", page_token=page)
        found += versions
        page = versions.token or ""
    entries = [
        Promotion(int(v.version), v.tags[_BASE], v.tags[_TO], v.tags[_TOKEN], _PUBLISHED in v.tags) for v in found
    ]
    return sorted(entries, key=lambda entry: entry.number)


def _settle(client: MlflowClient, name: str) -> str:
    """Reconcile log and alias; returns the champion's number, empty for none."""
    while True:
        granted = promotions(client, name)
        if granted and not granted[-1].published:
            # the process that requested it was killed, or is about to publish it
            _publish(client, name, granted[-1])
            continue
        logged = granted[-1].to if granted else ""
        shown = find(client, name, CHAMPION)
        number = shown.number if shown else ""
        if number == logged:
            return logged
        if promotions(client, name)[-1:] == granted[-1:]:
            # no promotion in between explains it
            _append(client, name, logged, number, "the alias was moved by hand")


def _append(client: MlflowClient, name: str, base: str, to: str, reason: str) -> str:
    """Request a promotion; returns the token that identifies it."""
    from mlflow import MlflowException

    try:
        client.create_registered_model(_log_of(name), description=f"The log of who became champion of {name}.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    token = uuid.uuid4().hex
    # MLflow requires a source: this one leads nowhere, since the log holds no models
    source = f"promotion:/{name}/{to or 'none'}"
    tags = {_BASE: base, _TO: to, _TOKEN: token}
    client.create_model_version(_log_of(name), source, tags=tags, description=reason, await_creation_for=0)
    return token


def _publish(client: MlflowClient, name: str, promotion: Promotion) -> None:
    """Set the aliases as a promotion says, and again for as long as there is a newer one."""
    while True:
        if _exists(client, name, promotion.base):
            client.set_registered_model_alias(name, PREVIOUS, promotion.base)
        if _exists(client, name, promotion.to):
            client.set_registered_model_alias(name, CHAMPION, promotion.to)
        else:
            client.delete_registered_model_alias(name, CHAMPION)
        client.set_model_version_tag(_log_of(name), str(promotion.number), _PUBLISHED, "true")
        newest = promotions(client, name)[-1]
        if newest.number == promotion.number:
            return
        promotion = newest


def _exists(client: MlflowClient, name: str, number: str) -> bool:
    # it may have been deleted since
    return bool(number) and get_version(client, name, number) is not None


def _log_of(name: str) -> str:
    return f"{name}-promotions"
