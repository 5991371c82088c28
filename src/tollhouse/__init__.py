"""Tollhouse: one address for every model."""

from tollhouse._version import __version__

__all__ = ["__version__"]
