"""What importing costs: a program that only wants the package pays for nothing else."""

import os
import subprocess
import sys

import tollhouse
import tollhouse.client
from support.client_town import Town


def loaded(code: str) -> set[str]:
    """The modules that are there after the code ran in a fresh interpreter."""
    ran = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"], capture_output=True, check=True, timeout=60
    )
    return set(ran.stdout.decode().split())


def test_importing_the_package_imports_no_client_no_server_and_nothing_heavy():
    modules = loaded("import tollhouse; tollhouse.__version__")

    ours = {name for name in modules if name.startswith("tollhouse")}
    assert ours == {"tollhouse", "tollhouse._version"}
    assert not modules & {"asyncio", "msgspec", "yaml", "grpc", "google.protobuf", "click", "ssl", "httptools"}


def test_a_client_over_http_imports_no_server_and_no_grpc():
    modules = loaded("import tollhouse; tollhouse.Client('http://localhost:1', protocol='json').close()")

    assert not {name for name in modules if name.startswith(("tollhouse.server", "tollhouse.policy", "tollhouse.cli."))}
    assert not modules & {"grpc", "google.protobuf", "sqlalchemy", "prometheus_client", "jwt", "starlette", "uvloop"}


def test_every_name_that_is_promised_is_there():
    assert {name for name in tollhouse.__all__ if not hasattr(tollhouse, name)} == set()
    assert {name for name in tollhouse.client.__all__ if not hasattr(tollhouse.client, name)} == set()
    assert dir(tollhouse.client) == sorted(tollhouse.client.__all__)
    assert not hasattr(tollhouse, "Clint")
    assert not hasattr(tollhouse.client, "Clint")


CARELESS = """
import tollhouse

client = tollhouse.Client()
print(client.chat("hi").text)
begun = client.stream("hi")
begun.open()
"""


def test_a_program_that_ends_without_closing_anything_ends_in_peace(town: Town):
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", CARELESS],
        env={**town.proxy_environ(), "PATH": os.environ["PATH"]},
        capture_output=True,
        timeout=60,
        check=True,
    )

    assert ran.stdout.decode().startswith("Toll houses")
    assert ran.stderr == b""
