"""Which versions go together, and which side is to be upgraded."""

import pytest

from tollhouse.client import VersionMismatch
from tollhouse.client.versions import check


@pytest.mark.parametrize(
    ("client", "server", "upgrade"),
    [
        ("1.4.0", "1.4.9", None),
        ("1.5.0", "1.4.0", None),
        ("1.6.0", "1.4.0", "server"),
        ("1.0.0", "1.9.0", None),
        ("2.0.0", "1.9.0", "server"),
        ("1.9.0", "2.0.0", "client"),
        ("0.1.0", "0.2.0", None),
        ("0.3.0", "0.1.0", "server"),
        ("1.4.0", "v1.4", None),
        ("1.6.0rc1", "1.4.2+local", "server"),
        ("1.4.0", "unknown", None),
        ("1.4.0", "", None),
    ],
)
def test_same_major_and_at_most_one_minor_ahead(client: str, server: str, upgrade: str | None):
    if upgrade is None:
        check(client, server, "gw:1")
        return
    with pytest.raises(VersionMismatch) as caught:
        check(client, server, "gw:1")
    assert f"Upgrade the {upgrade}" in str(caught.value)
    assert client in str(caught.value)
    assert server in str(caught.value)
