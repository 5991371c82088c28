"""Tollhouse: one address for every model."""

from importlib import import_module
from typing import TYPE_CHECKING

from tollhouse._version import __version__

if TYPE_CHECKING:
    from tollhouse.client.asynchronous import AsyncClient
    from tollhouse.client.synchronous import Client

__all__ = ["AsyncClient", "Client", "__version__"]


def __getattr__(name: str) -> object:
    # The client is imported when somebody asks for it: a gateway has no use for it, and the command line starts without.
    if name in {"AsyncClient", "Client"}:
        return getattr(import_module("tollhouse.client"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
