"""The first configuration file, written for the machine that it is made on."""

import hashlib
import json
import secrets
from collections.abc import Mapping
from typing import Final

from tollhouse.config.schema import ProviderDefaults

KEY_PREFIX: Final = "th-"

_HEAD: Final = """\
# Tollhouse's configuration.
#   tollhouse config check   says what is wrong with it, with line numbers
#   tollhouse config show    prints every setting, and where its value came from
# ${NAME} is an environment variable, ${NAME:-text} has a default, ${file:/run/secrets/x} is a file's content.

server:
  host: 127.0.0.1       # who may reach it: 127.0.0.1 is this machine alone; for others set `tls` too (`tollhouse cert init`)
  port: 8080
  admin_port: 9090      # metrics and administration, on a listener of their own
  # grpc_port: none     # gRPC is on port 50051 where the extra `grpc` is installed
  workers: 1

# Only callers with one of these keys are let in.  A `key` may stand here itself; its digest is enough:
#   python -c "import hashlib; print(hashlib.sha256(input().encode()).hexdigest())"
auth:
  keys:
    - name: default
      key_sha256: "{digest}"
{jwt}
# Clients name a model as provider/model.
providers:
"""

_TOKENS: Final = "  jwt: {}               # signed tokens, as `tollhouse token create` issues them\n"

_TAIL: Final = """
# Names of your own for models.  A list is tried in its order; `default` answers clients that leave it to you.
{models}

# How much may pass, and what it may cost.  A call must fit into all of them; budgets are in dollars, their windows in UTC.
# limits: {requests_per_minute: 600, concurrent: 100, max_wait: 2s, per_key: {requests_per_minute: 120}}
# budgets:
#   - {scope: global, daily: 20, monthly: 200}
#   - {scope: "key:default", daily: 5, mode: soft, alert_at: [0.5, 0.9]}

# More that there is; docs/configuration.md has all of it.
# admin: {tokens: [{name: ops, token: "${TOLLHOUSE_ADMIN_TOKEN}", role: admin}]}    # keys and budgets over HTTP
# cache: {responses: {ttl: 10m}, coalesce: true}                                    # identical requests are answered once
# state: {url: "redis://127.0.0.1:6379/0"}                                          # limits shared by several machines
# logging: {level: info, format: json, bodies: off}                                 # prompts are kept only if you say so

# Where calls and their cost are written down: sqlite:///relative, sqlite:////absolute or postgresql://...
ledger:
  url: {ledger_url}
"""


_MODELS: Final = """\
models:
  default: {model}
  # fast: {model}
  # smart: [anthropic/claude-sonnet-4-5, openai/gpt-4o]"""

_MODELS_TO_NAME: Final = """\
# models:
#   default: {provider}/NAME-OF-A-MODEL
#   smart: [anthropic/claude-sonnet-4-5, openai/gpt-4o]"""

_DEFAULTS: Final[Mapping[str, str]] = {"openai": "gpt-4o-mini", "anthropic": "claude-sonnet-4-5"}
"""What is asked of a provider by whoever names no model, where we know one to be there."""

EMBEDDED_MODEL: Final = "smollm2-135m-instruct"
"""What answers where nobody has a provider's key; the name that `tollhouse local pull` knows."""


def new_key() -> str:
    """A fresh key for callers: `th-` and 32 random bytes in URL-safe base64."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def starter(
    key: str,
    environ: Mapping[str, str],
    provider_types: Mapping[str, ProviderDefaults],
    *,
    ledger_url: str = "sqlite:///tollhouse.db",
    with_tokens: bool = False,
) -> str:
    """The text of a file that loads: one key for callers, and each provider whose key is in the environment.

    `with_tokens`: signed tokens are let in too.

    Neither the callers' key nor a provider's is in the text.  Without any provider's key, the embedded model answers.
    """
    ready: dict[str, str] = {}
    for name, defaults in provider_types.items():
        variable = defaults.key_variable
        # A type with two names has one variable, and its first name is the better known.
        if variable and environ.get(variable) and variable not in ready.values() and not defaults.needs_base_url:
            ready[name] = variable
    blocks = [f'  {name}:\n    api_key: "${{{variable}}}"\n' for name, variable in ready.items()]
    if not blocks:
        blocks = [
            f"  local:                # needs no key; `tollhouse local pull` fetches it\n    models: [{EMBEDDED_MODEL}]\n"
        ]
    default = next((f"{name}/{_DEFAULTS[name]}" for name in ready if name in _DEFAULTS), "")
    if not ready:
        default = f"local/{EMBEDDED_MODEL}"
    models = (
        _MODELS.replace("{model}", default) if default else _MODELS_TO_NAME.replace("{provider}", next(iter(ready)))
    )
    digest = hashlib.sha256(key.encode()).hexdigest()
    head = _HEAD.replace("{digest}", digest).replace("{jwt}", _TOKENS if with_tokens else "")
    tail = _TAIL.replace("{models}", models).replace("{ledger_url}", _quoted(ledger_url))
    return head + "".join(blocks) + tail


def _quoted(text: str) -> str:
    """A text as YAML and `${…}` both leave it alone."""
    return json.dumps(text.replace("${", "$${"), ensure_ascii=False)
