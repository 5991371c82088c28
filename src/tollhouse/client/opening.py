"""Opaque values as they were before a gateway sealed them for a dialect that has no place for their home.

A conversation may begin through a gateway in JSON and go on in protobuf, or straight to the provider: then the value has to be
the provider's own again.  On the way back into JSON the dialect seals it anew.
"""

import msgspec

from tollhouse.chat.events import Event, PartOpened, Signed
from tollhouse.chat.model import Opaque, Part, RedactedThinking, Response, Text, Thinking, ToolCall
from tollhouse.chat.opaque import GATEWAY, read_id, rejoin, unseal
from tollhouse.dialects.openai_chat.pieces import HOME


def opened_response(response: Response) -> Response:
    """The answer with its values opened, and signatures that rode in parts of their own back in their places."""
    return msgspec.structs.replace(
        response,
        choices=tuple(
            msgspec.structs.replace(choice, parts=rejoin(map(opened_part, choice.parts))) for choice in response.choices
        ),
    )


def opened_event(event: Event) -> Event:
    """The same of a stream's event."""
    match event:
        case PartOpened(index=index, part=part, choice=choice):
            return PartOpened(index, opened_part(part), choice)
        case Signed(index=index, signature=signature, choice=choice):
            return Signed(index, _opened(signature), choice)
        case _:
            return event


def opened_part(part: Part) -> Part:
    """The same of one part."""
    match part:
        case ToolCall():
            identity, signature = read_id(part.id)
            if signature is None:
                signature = part.signature and _opened(part.signature)
            return msgspec.structs.replace(part, id=identity, signature=signature)
        case Thinking(signature=Opaque() as signature) | Text(signature=Opaque() as signature):
            return msgspec.structs.replace(part, signature=_opened(signature))
        case RedactedThinking(data=data):
            return RedactedThinking(_opened(data))
        case _:
            return part


def _opened(value: Opaque) -> Opaque:
    """A value that came from the gateway is that of whoever made it; what is bare belongs to the dialect's own home."""
    return unseal(value.value, HOME) if value.home == GATEWAY else value
