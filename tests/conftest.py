"""Fixtures and settings for every room."""

import os

from hypothesis import settings

from support.fixtures import fake_provider

__all__ = ["fake_provider"]

# A busy machine is no failure, and the gate runs the same examples each time; at a desk they vary.
settings.register_profile("gate", deadline=None, derandomize=True)
settings.register_profile("desk", deadline=None)
settings.load_profile("gate" if os.environ.get("CI") else "desk")
