"""Fixtures for every room."""

from support.fixtures import fake_provider

__all__ = ["fake_provider"]
