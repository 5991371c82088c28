"""The client: calls to models, through a gateway or straight to providers.

    import tollhouse

    with tollhouse.Client() as client:
        print(client.chat("Explain kubernetes pods.", model="openai/gpt-4o-mini").text)

What a program needs is named here and imported when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tollhouse.client.answer import Answer, Counted, Embedded, Marks, ModelInfo, Models, ServerInfo
    from tollhouse.client.asgi import health_app
    from tollhouse.client.asynchronous import AsyncClient, AsyncStream
    from tollhouse.client.conversation import image, tool_result
    from tollhouse.client.failures import (
        AnswerBroken,
        BadCall,
        BadServerUrl,
        BadSettings,
        CallFailed,
        ClientClosed,
        ClientError,
        ConnectionRefused,
        NoSuchModel,
        NotAllowed,
        NotAuthenticated,
        NotForThisLoop,
        NotSpoken,
        OverBudget,
        OverLimit,
        ProviderFailed,
        ServerBusy,
        ServerFailed,
        TimedOut,
        TlsFailed,
        Unreachable,
        VersionMismatch,
    )
    from tollhouse.client.health import Health
    from tollhouse.client.settings import Settings
    from tollhouse.client.synchronous import Client, Stream

__all__ = [
    "Answer",
    "AnswerBroken",
    "AsyncClient",
    "AsyncStream",
    "BadCall",
    "BadServerUrl",
    "BadSettings",
    "CallFailed",
    "Client",
    "ClientClosed",
    "ClientError",
    "ConnectionRefused",
    "Counted",
    "Embedded",
    "Health",
    "Marks",
    "ModelInfo",
    "Models",
    "NoSuchModel",
    "NotAllowed",
    "NotAuthenticated",
    "NotForThisLoop",
    "NotSpoken",
    "OverBudget",
    "OverLimit",
    "ProviderFailed",
    "ServerBusy",
    "ServerFailed",
    "ServerInfo",
    "Settings",
    "Stream",
    "TimedOut",
    "TlsFailed",
    "Unreachable",
    "VersionMismatch",
    "health_app",
    "image",
    "tool_result",
]

_ELSEWHERE: Final = {
    **dict.fromkeys(("Answer", "Counted", "Embedded", "Marks", "ModelInfo", "Models", "ServerInfo"), "answer"),
    **dict.fromkeys(("AsyncClient", "AsyncStream"), "asynchronous"),
    **dict.fromkeys(("Client", "Stream"), "synchronous"),
    **dict.fromkeys(("image", "tool_result"), "conversation"),
    "Health": "health",
    "Settings": "settings",
    "health_app": "asgi",
}
"""The modules of names; all others are errors."""


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"tollhouse.client.{_ELSEWHERE.get(name, 'failures')}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
