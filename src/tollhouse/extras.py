"""The optional parts of Tollhouse: what each needs, and the command that installs it."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Final, NamedTuple


def is_installed(module: str) -> bool:
    """Whether a module can be found, without importing more than the packages that it is in."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package that it is in
        return False


class Extra(NamedTuple):
    """One of the extras of `pyproject.toml`."""

    name: str
    modules: tuple[str, ...]
    """What is imported of it."""

    @property
    def command(self) -> str:
        """What a person types to have it."""
        return f"pip install 'tollhouse[{self.name}]'"

    def missing(self, is_there: Callable[[str], bool] = is_installed) -> tuple[str, ...]:
        """Those of its modules that are not there."""
        return tuple(module for module in self.modules if not is_there(module))


DEMO: Final = Extra("demo", ("xllamacpp", "openai", "anthropic"))
EXPORT: Final = Extra("export", ("pyarrow",))
GRPC: Final = Extra("grpc", ("grpc", "google.protobuf", "grpc_health", "grpc_reflection"))
HTTP2: Final = Extra("http2", ("granian",))
LOCAL: Final = Extra("local", ("xllamacpp",))
OTEL: Final = Extra("otel", ("opentelemetry.exporter.otlp.proto.http",))
POSTGRES: Final = Extra("postgres", ("asyncpg",))
VALKEY: Final = Extra("valkey", ("redis",))
