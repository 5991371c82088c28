"""What the bench writes for the servers that it starts."""

from pathlib import Path

from bench.gateway import config_text as gateway_config
from bench.gateway import gateway
from bench.nginx import config_text as nginx_config
from tollhouse.config.load import load
from tollhouse.providers.registry import defaults_by_type


def test_the_gateway_accepts_the_bench_s_configuration(tmp_path: Path):
    file = tmp_path / "tollhouse.yaml"
    file.write_text(gateway_config(folder=tmp_path, port=18080, admin_port=19090, provider_port=19100))
    config = load(file, {}, defaults_by_type())
    assert set(config.aliases) == {"chat", "message"}
    assert config.limits.overall.requests_per_minute is not None
    assert config.budgets
    assert not config.warnings


def test_a_start_command_gets_the_configuration_s_path(tmp_path: Path):
    subject = gateway(
        "tollhouse serve --config {config}", folder=tmp_path, port=18080, admin_port=19090, provider_port=19100
    )
    assert subject.command == ("tollhouse", "serve", "--config", str(tmp_path / "tollhouse.yaml"))


def test_nginx_relays_unbuffered_over_kept_connections():
    text = nginx_config(folder=Path("/srv/bench"), port=8000, provider_port=9000, user=None)
    assert "proxy_buffering off;" in text
    assert 'proxy_set_header Connection "";' in text
    assert "server 127.0.0.1:9000;" in text
    assert "user " not in text


def test_a_master_that_is_root_names_its_worker_s_user():
    assert "\nuser root;\n" in nginx_config(folder=Path("/srv/bench"), port=8000, provider_port=9000, user="root")
