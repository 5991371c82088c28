"""What the command line says over the file."""

from pathlib import Path

import msgspec
import pytest

from support.certificates import Pki
from support.configs import EXAMPLE, MINIMAL, read
from tollhouse.config.overrides import NOTHING_OVERRULED, Overrides
from tollhouse.config.schema import RateSettings, TlsSettings
from tollhouse.errors import ConfigError


def refused(text: str, overrides: Overrides) -> str:
    with pytest.raises(ConfigError) as caught:
        overrides.over(read(text))
    return str(caught.value)


def test_nothing_said_changes_nothing():
    config = read(EXAMPLE)
    assert NOTHING_OVERRULED.over(config) == config


def test_each_option_goes_before_the_file():
    config = Overrides(
        host="::1", port=1, admin_port=2, grpc_port=3, workers=4, log_level="error", requests_per_minute=5, concurrent=6
    ).over(read(EXAMPLE + "limits: {tokens_per_minute: 7, requests_per_minute: 8}\n"))
    server = config.server
    assert (server.host, server.port, server.admin_port, server.grpc_port, server.workers) == ("::1", 1, 2, 3, 4)
    assert config.logging.level == "error"
    assert config.limits.overall == RateSettings(requests_per_minute=5, concurrent=6, tokens_per_minute=7)


def test_auth_that_is_required_is_required():
    assert read(MINIMAL).auth.open
    assert not Overrides(requires_auth=True).over(read(MINIMAL)).auth.open


@pytest.mark.parametrize(
    ("name", "model"),
    [("smart", "smart"), ("openai/anything", "openai/anything"), ("gpt-9", "lab/gpt-9")],
)
def test_a_model_is_an_alias_one_of_a_provider_or_one_that_is_listed_once(name: str, model: str):
    text = EXAMPLE.replace("api_key: x}", "api_key: x, models: [gpt-9]}")
    assert Overrides(model=name).over(read(text)).default_model == model


def test_an_unknown_model_is_refused_with_the_nearest():
    assert "--model: There is no model 'smrat' here. Did you mean 'smart'?" in refused(
        EXAMPLE, Overrides(model="smrat")
    )
    assert "written provider/model" in refused(EXAMPLE, Overrides(model="zzz"))


def test_other_machines_are_let_in_only_with_encryption_and_credentials(tmp_path: Path):
    pair = Pki(tmp_path).server()
    tls = TlsSettings(cert=str(pair.cert), key=str(pair.key))
    assert "would speak plain text on 0.0.0.0" in refused(EXAMPLE, Overrides(host="0.0.0.0"))
    assert Overrides(host="0.0.0.0", insecure=True).over(read(EXAMPLE)).server.insecure
    assert Overrides(host="0.0.0.0", tls=tls).over(read(EXAMPLE)).server.tls == tls
    assert "`auth.open`" in refused(MINIMAL, Overrides(host="0.0.0.0", tls=tls))
    assert Overrides(host="0.0.0.0", tls=tls, requires_auth=True).over(read(MINIMAL)).server.host == "0.0.0.0"


def test_two_listeners_cannot_have_one_port():
    assert "`admin_port` and `port` cannot both be port 9090" in refused(EXAMPLE, Overrides(port=9090))
    assert "`port` and `grpc_port` cannot both be port 8080" in refused(EXAMPLE, Overrides(grpc_port=8080))
    assert Overrides(grpc_port=8080, without_http=True).over(read(EXAMPLE)).server.grpc_port == 8080
    assert Overrides(port=0, admin_port=0).over(read(EXAMPLE)).server.port == 0


def test_something_is_served():
    assert "nobody could call" in refused(EXAMPLE, Overrides(without_http=True, grpc_port=0))


def test_they_travel_to_workers_as_json():
    overrides = Overrides(host="::1", model="smart", tls=TlsSettings(cert="c", key="k", client_ca="a"))
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(overrides)), Overrides) == overrides
