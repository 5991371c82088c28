"""What the client was told, from three places: arguments over environment over profile; and all that is wrong with it at once.

A credential never goes to another server than it was meant for: the token, the authorities and the certificate of a profile are
used only while the address is the profile's own.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Final, Literal, TypeAlias

from tollhouse.client.failures import BadServerUrl, BadSettings
from tollhouse.client.profiles import Profile, ProfileStore, UnsafeFile
from tollhouse.client.urls import ServerUrl, parse
from tollhouse.config.schema import ProviderSettings
from tollhouse.config.secret import Secret
from tollhouse.upstream.address import BadAddress
from tollhouse.upstream.proxy import NO_PROXIES, Proxies, proxies_from

Mode: TypeAlias = Literal["direct", "proxy"]
Protocol: TypeAlias = Literal["auto", "json", "protobuf", "grpc"]

DEFAULT_URL: Final = "http://localhost:8080"
MODES: Final = ("direct", "proxy")
PROTOCOLS: Final = ("auto", "json", "protobuf", "grpc")

PROFILE_VARIABLE: Final = "TOLLHOUSE_PROFILE"

VARIABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "mode": ("API_CONNECTION_MODE",),
    "url": ("PROXY_SERVER_URL",),
    "protocol": ("PROXY_PROTOCOL",),
    "token": ("TOLLHOUSE_TOKEN", "TOLLHOUSE_KEY"),
    "ca_bundle": ("TOLLHOUSE_CA_BUNDLE",),
    "client_cert": ("TOLLHOUSE_CLIENT_CERT",),
    "client_key": ("TOLLHOUSE_CLIENT_KEY",),
    "model": ("TOLLHOUSE_MODEL",),
    "fallback_models": ("TOLLHOUSE_FALLBACK_MODELS",),
    "fallback_to_direct": ("TOLLHOUSE_FALLBACK_TO_DIRECT",),
    "insecure": ("TOLLHOUSE_INSECURE",),
    "timeout": ("TOLLHOUSE_TIMEOUT",),
}
"""The environment variables of each setting; of several the first that is set."""

PROFILE_KEYS: Final = frozenset({"url", "token_file", "connect_timeout", "retries", "connections"} | set(VARIABLES)) - {
    "token"
}
"""What a profile may say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a client goes by.  Times in seconds."""

    mode: Mode = "proxy"
    server: ServerUrl = field(default_factory=lambda: parse(DEFAULT_URL))
    """The gateway; used in `proxy` mode."""
    protocol: Protocol = "auto"
    token: Secret | None = None
    """What the gateway knows us by."""
    ca_bundle: str | None = None
    """PEM file of the authorities that are trusted, in place of the system's."""
    client_cert: str | None = None
    """PEM file of the certificate that we show."""
    client_key: str | None = None
    """PEM file of its key, if that is not in the same file."""
    model: str | None = None
    """What is asked when a call names no model."""
    fallback_models: tuple[str, ...] = ()
    """What is asked, in this order, when that fails before anything was delivered."""
    fallback_to_direct: bool = False
    """Whether a call goes straight to the providers when the gateway is down.  Off, because it passes the gateway's limits,
    budgets and books."""
    insecure: bool = False
    """Whether plain text may go to another machine."""
    timeout: float = 600.0
    """Over one call, retries included."""
    connect_timeout: float = 5.0
    retries: int = 2
    """How often a call is tried again that was certainly not begun: no connection, 429, 503."""
    connections: int = 10
    """Calls to the gateway at the same time; more of them wait in line."""
    check_version: bool = True
    """Whether the gateway is asked for its version before the first call."""
    providers: Mapping[str, ProviderSettings] = field(default_factory=dict)
    """Whom `direct` mode can ask, with the caller's own keys."""
    proxies: Proxies = NO_PROXIES
    """HTTP proxies on the way (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`); this machine is never reached through one."""
    profile: str | None = None
    """The profile that the address came from."""
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Where each setting that is no default came from."""

    @property
    def speaks_grpc(self) -> bool:
        """Whether the gateway is spoken to over gRPC."""
        return self.protocol == "grpc" or (self.protocol == "auto" and not self.server.is_http)

    @property
    def where(self) -> str:
        """The gateway's `host:port`."""
        return self.server.where(grpc=self.speaks_grpc)


@dataclass(frozen=True, slots=True)
class _Said:
    """A value, and who said it."""

    value: object
    origin: str


class _Refused(Exception):
    """What a reader does not take; the sentence says what is wanted."""


Reader: TypeAlias = Callable[[object], object]


def resolve(
    arguments: Mapping[str, object],
    environ: Mapping[str, str],
    store: ProfileStore | None,
    *,
    profile: str | None = None,
    direct: Mapping[str, ProviderSettings] | None = None,
    needs_connection: bool = True,
) -> Settings:
    """Puts the settings together.  Raises `BadSettings` with every problem at once.

    `arguments` are by setting, `None` meaning "not given"; without a `store` there are no profiles.  `direct` are providers
    for direct mode beside those whose keys are in the environment.  `needs_connection` off leaves out the check that there is
    somebody to ask.
    """
    problems: list[str] = []
    chosen = None if store is None else _profile(store, profile, environ)
    said: dict[str, _Said] = {}
    if chosen is not None and store is not None:
        said = _of_profile(chosen, store, problems)
    own_url = said.get("url")
    said = _overlaid(said, arguments, environ)
    values: dict[str, object] = {}
    for name, reader in _READERS.items():
        if name in said:
            try:
                values[name] = reader(said[name].value)
            except _Refused as refused:
                problems.append(f"{said[name].origin}: {refused}")
    server = values.pop("url", None)
    server = server if isinstance(server, ServerUrl) else None
    token = values.pop("token", None)
    if token is None and server is not None:
        token = server.token
    providers = {**providers_from(environ, problems, insecure=bool(values.get("insecure"))), **(direct or {})}
    try:
        proxies = proxies_from(environ)
    except BadAddress as error:
        problems.append(f"{error} (environment)")
        proxies = NO_PROXIES
    mode = values.pop("mode", None) or ("direct" if providers and "url" not in said else "proxy")
    settings = Settings(
        mode=mode,  # type: ignore[arg-type]  # the readers give what the fields want; so below
        server=server.without_token() if server is not None else parse(DEFAULT_URL),
        token=token,  # type: ignore[arg-type]
        providers=providers,
        proxies=proxies,
        profile=chosen.name if chosen is not None and said.get("url") is own_url else None,
        origins={name: each.origin for name, each in said.items()},
        **values,  # type: ignore[arg-type]
    )
    problems += _contradictions(settings, said, needs_connection=needs_connection)
    if problems:
        raise BadSettings(problems)
    return settings


def providers_from(
    environ: Mapping[str, str], problems: list[str] | None = None, *, insecure: bool = False
) -> dict[str, ProviderSettings]:
    """The providers whose keys are in the environment, by the names of their types.

    `OPENAI_BASE_URL` and its like replace an address, as the providers' own tools have it.
    """
    from tollhouse.providers.registry import PROVIDER_TYPES

    found: dict[str, ProviderSettings] = {}
    seen: set[str] = set()
    for name, kind in PROVIDER_TYPES.items():
        variable = kind.key_variable
        # Of several types with the same key, the first is the one that people mean by it.
        if variable is None or name != kind.type or variable in seen:
            continue
        seen.add(variable)
        address = f"{variable.removesuffix('_API_KEY')}_BASE_URL"
        key, base_url = environ.get(variable, "").strip(), environ.get(address, "").strip()
        if not key and (kind.needs_key or not base_url):
            continue
        if base_url and problems is not None and (complaint := _plain_text(base_url, insecure=insecure)):
            problems.append(f"{address} (environment): {complaint}")
        found[name] = ProviderSettings(
            name=name, type=name, api_key=Secret(key) if key else None, base_url=base_url or None
        )
    return found


def _plain_text(base_url: str, *, insecure: bool) -> str | None:
    """What is wrong with a provider's address, to which a key will be sent."""
    try:
        url = parse(base_url)
    except BadServerUrl as error:
        return error.message
    if not url.is_http:
        return "A provider's address begins with https:// or http://."
    if not url.is_tls and not url.is_loopback and not insecure:
        return "Plain http:// would show the key to the network; use https://, or say `insecure`."
    return None


def _profile(store: ProfileStore, named: str | None, environ: Mapping[str, str]) -> Profile | None:
    profiles = store.read()
    if named is not None:
        return profiles.get(named)
    if variable := environ.get(PROFILE_VARIABLE, "").strip():
        return profiles.get(variable, origin=f"{PROFILE_VARIABLE} (environment)")
    return None if profiles.active is None else profiles.by_name[profiles.active]


_OF_THE_SERVER: Final = frozenset({"ca_bundle", "client_cert", "client_key", "token", "protocol", "insecure"})
"""What belongs to one server, and is not taken along to another."""


def _of_profile(profile: Profile, store: ProfileStore, problems: list[str]) -> dict[str, _Said]:
    """What a profile says, its token included."""
    where = f"{store.file}: profiles.{profile.name}"
    said = {name: _Said(value, f"{where}.{name}") for name, value in profile.values.items()}
    for name in profile.values.keys() - PROFILE_KEYS:
        near = get_close_matches(name, PROFILE_KEYS, n=1)
        problems.append(f"{where}.{name}: There is no such setting{f'; is {near[0]!r} meant?' if near else '.'}")
        del said[name]
    said.pop("token_file", None)
    try:
        token = store.token(profile)
    except (OSError, UnsafeFile) as error:
        why = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        problems.append(f"{where}: its token cannot be used: {why.rstrip('.')}.")
    else:
        if token is not None:
            said["token"] = _Said(token, f"{where}, its token")
    return said


def _overlaid(
    said: Mapping[str, _Said], arguments: Mapping[str, object], environ: Mapping[str, str]
) -> dict[str, _Said]:
    """Each setting from the highest place that has it."""
    higher: dict[str, _Said] = {}
    for name, variables in VARIABLES.items():
        for variable in variables:
            value = environ.get(variable, "").strip()
            if value:
                higher[name] = _Said(value, f"{variable} (environment)")
                break
    higher = _with_its_token(higher)
    spoken = {name: _Said(value, f"argument `{name}`") for name, value in arguments.items() if value is not None}
    higher |= _with_its_token(spoken)
    if "url" in higher and "url" in said and not _is_same_server(higher["url"].value, said["url"].value):
        said = {name: each for name, each in said.items() if name not in _OF_THE_SERVER}
    return {**said, **higher}


def _with_its_token(said: dict[str, _Said]) -> dict[str, _Said]:
    """With the token of the address where nobody gave one beside it: it counts as much as its address does."""
    url = said.get("url")
    if url is None or "token" in said:
        return said
    try:
        server = url.value if isinstance(url.value, ServerUrl) else parse(str(url.value))
    except BadServerUrl:
        return said  # its reader says what is wrong with it
    return said if server.token is None else {**said, "token": _Said(server.token, f"{url.origin}, its token")}


def _is_same_server(one: object, other: object) -> bool:
    try:
        return parse(str(one)).server == parse(str(other)).server
    except BadServerUrl:
        return False


def _contradictions(settings: Settings, said: Mapping[str, _Said], *, needs_connection: bool) -> Iterable[str]:
    """What no setting is guilty of alone."""
    server = settings.server

    def origin(name: str) -> str:
        return said[name].origin if name in said else f"`{name}`"

    if settings.mode == "proxy":
        if server.is_vibectl and settings.protocol in {"json", "protobuf"}:
            yield (
                f"{origin('protocol')}: A server at {server.scheme}:// speaks gRPC alone; "
                f"say `grpc` or `auto`, or give its https:// address."
            )
        if not server.is_tls and not server.is_loopback and not (settings.insecure or server.says_insecure):
            yield (
                f"{origin('url')}: Plain http:// to another machine shows prompts and token to the network; "
                "use https://, or say `insecure` (TOLLHOUSE_INSECURE=1) if that network is yours."
            )
    if settings.client_key and not settings.client_cert:
        yield f"{origin('client_key')}: A key without its certificate; give `client_cert` too."
    for name in ("ca_bundle", "client_cert", "client_key"):
        path = getattr(settings, name)
        if path and not os.access(path, os.R_OK):
            why = "cannot be read" if Path(path).exists() else "does not exist"
            yield f"{origin(name)}: The file {path!r} {why}."
    if needs_connection and not settings.providers:
        if settings.mode == "direct":
            yield f"{origin('mode')}: Direct mode needs a provider's key; set one of {_key_variables()}."
        elif settings.fallback_to_direct:
            yield (
                f"{origin('fallback_to_direct')}: To go direct when the gateway is down needs a provider's key; "
                f"set one of {_key_variables()}."
            )


def _key_variables() -> str:
    from tollhouse.providers.registry import PROVIDER_TYPES

    kinds = [kind for name, kind in PROVIDER_TYPES.items() if kind.needs_key and name == kind.type]
    return ", ".join(dict.fromkeys(kind.key_variable for kind in kinds if kind.key_variable))


# -------------------------------------------------------------------------------------------------------------- readers

_TOKEN: Final = re.compile(r"[\x21-\x7e]+")
_MODEL: Final = re.compile(r"[^\s\x00-\x1f\x7f]{1,512}")
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})


def _one_of(choices: tuple[str, ...]) -> Reader:
    def read(value: object) -> str:
        text = str(value).strip().lower()
        if text not in choices:
            near = get_close_matches(text, choices, n=1)
            raise _Refused(
                f"{str(value)[:60]!r} is none of {', '.join(choices)}{f'; is {near[0]!r} meant?' if near else '.'}"
            )
        return text

    return read


def _url(value: object) -> ServerUrl:
    if isinstance(value, ServerUrl):
        return value
    try:
        return parse(str(value))
    except BadServerUrl as error:
        raise _Refused(str(error)) from error


def _secret(value: object) -> Secret:
    text = value.reveal() if isinstance(value, Secret) else str(value)
    if not _TOKEN.fullmatch(text):
        raise _Refused("The token has blanks, line breaks or characters outside ASCII; was it copied whole and alone?")
    return Secret(text)


def _text(value: object) -> str:
    return str(value)


def _path(value: object) -> str:
    return str(Path(str(value)).expanduser())


def _model(value: object) -> str:
    if not isinstance(value, str) or not _MODEL.fullmatch(value):
        raise _Refused("The name of a model has no blanks and at most 512 characters.")
    return value


def _models(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, Iterable):
        raise _Refused("This is a list of models, or their names with commas between them.")
    return tuple(_model(each) for each in value)


def _boolean(value: object) -> bool:
    text = str(value).strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise _Refused(f"{str(value)[:40]!r} is neither true nor false.")


def _seconds(least: float, most: float) -> Reader:
    def read(value: object) -> float:
        text = str(value).strip().lower()
        number, unit = (text[:-1], text[-1]) if text[-1:] in {"s", "m"} else (text, "s")
        try:
            seconds = float(number) * (60 if unit == "m" else 1)
        except ValueError:
            seconds = float("nan")
        if isinstance(value, bool) or not least <= seconds <= most:
            raise _Refused(f"{str(value)[:40]!r} is no time from {least:g} to {most:g} seconds (`30`, `1.5s`, `2m`).")
        return seconds

    return read


def _count(least: int, most: int) -> Reader:
    def read(value: object) -> int:
        try:
            number = int(str(value))
        except ValueError:
            number = least - 1
        if isinstance(value, bool) or not least <= number <= most:
            raise _Refused(f"{str(value)[:40]!r} is no whole number from {least} to {most}.")
        return number

    return read


_READERS: Final[Mapping[str, Reader]] = {
    "mode": _one_of(MODES),
    "url": _url,
    "protocol": _one_of(PROTOCOLS),
    "token": _secret,
    "ca_bundle": _path,
    "client_cert": _path,
    "client_key": _path,
    "model": _model,
    "fallback_models": _models,
    "fallback_to_direct": _boolean,
    "insecure": _boolean,
    "timeout": _seconds(0.1, 86_400),
    "connect_timeout": _seconds(0.05, 600),
    "retries": _count(0, 20),
    "connections": _count(1, 1000),
    "check_version": _boolean,
}
"""How each setting is read, in the order in which problems are told."""
