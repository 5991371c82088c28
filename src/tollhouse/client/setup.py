"""What both clients are made of: arguments, environment and profile put together."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias, TypedDict

from tollhouse.chat.embedding import EmbeddingRequest, EmbeddingTask
from tollhouse.client.failures import BadCall
from tollhouse.client.profiles import ProfileStore, client_folder
from tollhouse.client.settings import Settings, resolve
from tollhouse.client.urls import ServerUrl
from tollhouse.config.schema import ProviderSettings
from tollhouse.config.secret import Secret

Providers: TypeAlias = Mapping[str, ProviderSettings | str]
"""Providers for direct mode by name: whole settings, or the key of the provider of that type."""


class Options(TypedDict, total=False):
    """What a client may be told; docs/client.md says of each what it means and where else it may stand."""

    mode: str | None
    """`direct` or `proxy`."""
    protocol: str | None
    """`auto`, `json`, `protobuf` or `grpc`."""
    token: str | Secret | None
    ca_bundle: str | None
    client_cert: str | None
    client_key: str | None
    model: str | None
    fallback_models: Sequence[str] | None
    fallback_to_direct: bool | None
    insecure: bool | None
    timeout: float | str | None
    connect_timeout: float | None
    retries: int | None
    connections: int | None
    check_version: bool | None


def settings_of(
    url: str | ServerUrl | None,
    options: Options,
    *,
    profile: str | None = None,
    providers: Providers | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """The settings.  Reads the environment (or what is given in its place) and the profiles.  Raises `BadSettings`."""
    if unknown := options.keys() - Options.__annotations__.keys():
        raise TypeError(f"there is no argument {' or '.join(map(repr, sorted(unknown)))}")
    given = os.environ if environ is None else environ
    return resolve({"url": url, **options}, given, store_of(given), profile=profile, direct=_providers(providers))


def store_of(environ: Mapping[str, str]) -> ProfileStore:
    """The profiles of the person whose environment this is."""
    home = environ.get("HOME") or environ.get("USERPROFILE")
    return ProfileStore(client_folder(environ, Path(home) if home else Path.home()))


def _providers(given: Providers | None) -> dict[str, ProviderSettings]:
    return {
        name: ProviderSettings(name=name, type=name, api_key=Secret(each))
        if isinstance(each, str)
        else replace(each, name=name)
        for name, each in (given or {}).items()
    }


def models_of(first: str, fallback: Sequence[str] | None, settings: Settings) -> tuple[str, ...]:
    """The models of a call, in the order in which they are asked."""
    following = settings.fallback_models if fallback is None else fallback
    following = (following,) if isinstance(following, str) else tuple(following)
    return tuple(dict.fromkeys((first, *following)))


def embedding_of(
    texts: str | Iterable[str],
    *,
    model: str | None,
    dimensions: int | None,
    task: EmbeddingTask | None,
    settings: Settings,
) -> EmbeddingRequest:
    """The request for vectors.  Raises `BadCall`."""
    inputs = (texts,) if isinstance(texts, str) else tuple(texts)
    if not inputs or not all(isinstance(each, str) for each in inputs):
        raise BadCall("Embeddings are of one text or of several.", param="texts")
    return EmbeddingRequest(model=model or settings.model or "", inputs=inputs, dimensions=dimensions, task=task)
