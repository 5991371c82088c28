"""Guesses from sizes, for calls whose provider never said what they used.

Used only where there is no report: a client that left, a provider that went silent.  The ledger marks them `estimated`.
"""

import msgspec

from tollhouse.chat.model import Audio, Document, Foreign, Image, Inline, Request, Text, Thinking, ToolCall, ToolResult
from tollhouse.chat.usage import Usage

BYTES_PER_TOKEN = 4
TOKENS_PER_IMAGE = 1_000
"""Between a small and a full-size picture at the larger providers (85 to 1,600 tokens)."""
TOKENS_PER_MEDIA_KIB = 12
"""Documents and sound: about 3,000 tokens for a 250 KiB page image or a minute of speech."""
TOKENS_PER_MESSAGE = 4


def input_tokens(request: Request) -> int:
    """About how many tokens a prompt has."""
    text_bytes, fixed = measure(request)
    return fixed + -(-text_bytes // BYTES_PER_TOKEN)


def measure(request: Request) -> tuple[int, int]:
    """Bytes of text in a prompt, and about how many tokens everything else in it makes."""
    size = 0
    fixed = 0
    for message in request.messages:
        fixed += TOKENS_PER_MESSAGE
        for part in message.parts:
            text, tokens = _part(part)
            size += text
            fixed += tokens
    for tool in request.tools:
        size += len(msgspec.json.encode(tool))
    return size, fixed


def _part(part: object) -> tuple[int, int]:
    """Bytes of text, and tokens of everything else."""
    match part:
        case Text() | Thinking():
            return len(part.text.encode()), 0
        case ToolCall():
            return len(part.name) + len(part.arguments.encode()), TOKENS_PER_MESSAGE
        case ToolResult():
            pieces = [_part(inner) for inner in part.content]
            return sum(t for t, _ in pieces), TOKENS_PER_MESSAGE + sum(n for _, n in pieces)
        case Image():
            return 0, TOKENS_PER_IMAGE
        case Document(source=Inline(media_type="text/plain", data=data)):
            return len(data.encode()), 0
        case Document(source=Inline(data=data)) | Audio(data=data):
            return 0, TOKENS_PER_MEDIA_KIB * (len(data) * 3 // 4 // 1024 + 1)
        case Document():
            return 0, TOKENS_PER_IMAGE
        case Foreign():
            return len(part.raw), 0
        case _:
            return 0, 0


def unreported(request: Request) -> Usage:
    """What a call probably used that was cut off before its provider said anything: its prompt, and no answer."""
    return Usage(input_tokens=input_tokens(request), output_tokens=0, source="estimated")
