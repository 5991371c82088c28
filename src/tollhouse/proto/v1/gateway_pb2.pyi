from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Extra(_message.Message):
    __slots__ = ("dialect", "fields")
    class FieldsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    DIALECT_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    dialect: str
    fields: _containers.ScalarMap[str, str]
    def __init__(self, dialect: _Optional[str] = ..., fields: _Optional[_Mapping[str, str]] = ...) -> None: ...

class CacheMarker(_message.Message):
    __slots__ = ("ttl",)
    TTL_FIELD_NUMBER: _ClassVar[int]
    ttl: str
    def __init__(self, ttl: _Optional[str] = ...) -> None: ...

class Opaque(_message.Message):
    __slots__ = ("value", "home")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    HOME_FIELD_NUMBER: _ClassVar[int]
    value: str
    home: str
    def __init__(self, value: _Optional[str] = ..., home: _Optional[str] = ...) -> None: ...

class Inline(_message.Message):
    __slots__ = ("media_type", "data", "text")
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    media_type: str
    data: bytes
    text: str
    def __init__(self, media_type: _Optional[str] = ..., data: _Optional[bytes] = ..., text: _Optional[str] = ...) -> None: ...

class Remote(_message.Message):
    __slots__ = ("url",)
    URL_FIELD_NUMBER: _ClassVar[int]
    url: str
    def __init__(self, url: _Optional[str] = ...) -> None: ...

class StoredFile(_message.Message):
    __slots__ = ("id", "dialect")
    ID_FIELD_NUMBER: _ClassVar[int]
    DIALECT_FIELD_NUMBER: _ClassVar[int]
    id: str
    dialect: str
    def __init__(self, id: _Optional[str] = ..., dialect: _Optional[str] = ...) -> None: ...

class Source(_message.Message):
    __slots__ = ("inline", "remote", "file")
    INLINE_FIELD_NUMBER: _ClassVar[int]
    REMOTE_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    inline: Inline
    remote: Remote
    file: StoredFile
    def __init__(self, inline: _Optional[_Union[Inline, _Mapping]] = ..., remote: _Optional[_Union[Remote, _Mapping]] = ..., file: _Optional[_Union[StoredFile, _Mapping]] = ...) -> None: ...

class Citation(_message.Message):
    __slots__ = ("url", "title", "quote", "start", "end", "extra")
    URL_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    QUOTE_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    EXTRA_FIELD_NUMBER: _ClassVar[int]
    url: str
    title: str
    quote: str
    start: int
    end: int
    extra: Extra
    def __init__(self, url: _Optional[str] = ..., title: _Optional[str] = ..., quote: _Optional[str] = ..., start: _Optional[int] = ..., end: _Optional[int] = ..., extra: _Optional[_Union[Extra, _Mapping]] = ...) -> None: ...

class Text(_message.Message):
    __slots__ = ("text", "cache", "citations", "extra", "signature")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    CACHE_FIELD_NUMBER: _ClassVar[int]
    CITATIONS_FIELD_NUMBER: _ClassVar[int]
    EXTRA_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    text: str
    cache: CacheMarker
    citations: _containers.RepeatedCompositeFieldContainer[Citation]
    extra: Extra
    signature: Opaque
    def __init__(self, text: _Optional[str] = ..., cache: _Optional[_Union[CacheMarker, _Mapping]] = ..., citations: _Optional[_Iterable[_Union[Citation, _Mapping]]] = ..., extra: _Optional[_Union[Extra, _Mapping]] = ..., signature: _Optional[_Union[Opaque, _Mapping]] = ...) -> None: ...

class Image(_message.Message):
    __slots__ = ("source", "detail", "cache", "extra")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    CACHE_FIELD_NUMBER: _ClassVar[int]
    EXTRA_FIELD_NUMBER: _ClassVar[int]
    source: Source
    detail: str
    cache: CacheMarker
    extra: Extra
    def __init__(self, source: _Optional[_Union[Source, _Mapping]] = ..., detail: _Optional[str] = ..., cache: _Optional[_Union[CacheMarker, _Mapping]] = ..., extra: _Optional[_Union[Extra, _Mapping]] = ...) -> None: ...

class Document(_message.Message):
    __slots__ = ("source", "title", "context", "cite", "cache", "extra")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    CITE_FIELD_NUMBER: _ClassVar[int]
    CACHE_FIELD_NUMBER: _ClassVar[int]
    EXTRA_FIELD_NUMBER: _ClassVar[int]
    source: Source
    title: str
    context: str
    cite: bool
    cache: CacheMarker
    extra: Extra
    def __init__(self, source: _Optional[_Union[Source, _Mapping]] = ..., title: _Optional[str] = ..., context: _Optional[str] = ..., cite: _Optional[bool] = ..., cache: _Optional[_Union[CacheMarker, _Mapping]] = ..., extra: _Optional[_Union[Extra, _Mapping]] = ...) -> None: ...

class Audio(_message.Message):
    __slots__ = ("data", "text", "format", "extra")
    DATA_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    EXTRA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    text: str
    format: str
    extra: Extra
    def __init__(self, data: _Optional[bytes] = ..., text: _Optional[str] = ..., format: _Optional[str] = ..., extra: _Optional[_Union[Extra, _Mapping]] = ...) -> None: ...

class Thinking(_message.Message):
    __slots__ = ("text", "signature", "extra")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    EXTRA_FIELD_NUMBER: _ClassVar[int]
    text: str
    signature: Opaque
    extra: Extra
    def __init__(self, text: _Optional[str] = ..., signature: _Optional[_Union[Opaque, _Mapping]] = ..., extra: _Optional[_Union[Extra, _Mapping]] = ...) -> None: ...

class RedactedThinking(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: Opaque
    def __init__(self, data: _Optional[_Union[Opaque, _Mapping]] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("text",)
    TEXT_FIELD_NUMBER: _ClassVar[int]
    text: str
    def __init__(self, text: _Optional[str] = ...) -> None: ...

class ToolCall(_message.Message):
    __slots__ = ("id", "name", "arguments", "cache", "custom", "extra", "signature")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    CACHE_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_FIELD_NUMBER: _ClassVar[int]
    EXTRA_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    arguments: str
    cache: CacheMarker
    custom: bool
    extra: Extra
    signature: Opaque
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., arguments: _Optional[str] = ..., cache: _Optional[_Union[CacheMarker, _Mapping]] = ..., custom: _Optional[bool] = ..., extra: _Optional[_Union[Extra, _Mapping]] = ..., signature: _Optional[_Union[Opaque, _Mapping]] = ...) -> None: ...

class ToolResult(_message.Message):
    __slots__ = ("call_id", "content", "is_error", "cache", "extra")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    IS_ERROR_FIELD_NUMBER: _ClassVar[int]
    CACHE_FIELD_NUMBER: _ClassVar[int]
    EXTRA_FIELD_NUMBER: _ClassVar[int]
    call_id: str
    content: _containers.RepeatedCompositeFieldContainer[Part]
    is_error: bool
    cache: CacheMarker
    extra: Extra
    def __init__(self, call_id: _Optional[str] = ..., content: _Optional[_Iterable[_Union[Part, _Mapping]]] = ..., is_error: _Optional[bool] = ..., cache: _Optional[_Union[CacheMarker, _Mapping]] = ..., extra: _Optional[_Union[Extra, _Mapping]] = ...) -> None: ...

class Foreign(_message.Message):
    __slots__ = ("dialect", "kind", "raw")
    DIALECT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    dialect: str
    kind: str
    raw: str
    def __init__(self, dialect: _Optional[str] = ..., kind: _Optional[str] = ..., raw: _Optional[str] = ...) -> None: ...

class Part(_message.Message):
    __slots__ = ("text", "image", "document", "audio", "thinking", "redacted_thinking", "refusal", "tool_call", "tool_result", "foreign")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    THINKING_FIELD_NUMBER: _ClassVar[int]
    REDACTED_THINKING_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    TOOL_CALL_FIELD_NUMBER: _ClassVar[int]
    TOOL_RESULT_FIELD_NUMBER: _ClassVar[int]
    FOREIGN_FIELD_NUMBER: _ClassVar[int]
    text: Text
    image: Image
    document: Document
    audio: Audio
    thinking: Thinking
    redacted_thinking: RedactedThinking
    refusal: Refusal
    tool_call: ToolCall
    tool_result: ToolResult
    foreign: Foreign
    def __init__(self, text: _Optional[_Union[Text, _Mapping]] = ..., image: _Optional[_Union[Image, _Mapping]] = ..., document: _Optional[_Union[Document, _Mapping]] = ..., audio: _Optional[_Union[Audio, _Mapping]] = ..., thinking: _Optional[_Union[Thinking, _Mapping]] = ..., redacted_thinking: _Optional[_Union[RedactedThinking, _Mapping]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ..., tool_call: _Optional[_Union[ToolCall, _Mapping]] = ..., tool_result: _Optional[_Union[ToolResult, _Mapping]] = ..., foreign: _Optional[_Union[Foreign, _Mapping]] = ...) -> None: ...

class Message(_message.Message):
    __slots__ = ("role", "parts", "name", "extra")
    class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ROLE_UNSPECIFIED: _ClassVar[Message.Role]
        SYSTEM: _ClassVar[Message.Role]
        DEVELOPER: _ClassVar[Message.Role]
        USER: _ClassVar[Message.Role]
        ASSISTANT: _ClassVar[Message.Role]
        TOOL: _ClassVar[Message.Role]
    ROLE_UNSPECIFIED: Message.Role
    SYSTEM: Message.Role
    DEVELOPER: Message.Role
    USER: Message.Role
    ASSISTANT: Message.Role
    TOOL: Message.Role
    ROLE_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    EXTRA_FIELD_NUMBER: _ClassVar[int]
    role: Message.Role
    parts: _containers.RepeatedCompositeFieldContainer[Part]
    name: str
    extra: Extra
    def __init__(self, role: _Optional[_Union[Message.Role, str]] = ..., parts: _Optional[_Iterable[_Union[Part, _Mapping]]] = ..., name: _Optional[str] = ..., extra: _Optional[_Union[Extra, _Mapping]] = ...) -> None: ...

class FunctionTool(_message.Message):
    __slots__ = ("name", "description", "schema", "strict", "cache", "extra", "custom")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    STRICT_FIELD_NUMBER: _ClassVar[int]
    CACHE_FIELD_NUMBER: _ClassVar[int]
    EXTRA_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_FIELD_NUMBER: _ClassVar[int]
    name: str
    description: str
    schema: str
    strict: bool
    cache: CacheMarker
    extra: Extra
    custom: bool
    def __init__(self, name: _Optional[str] = ..., description: _Optional[str] = ..., schema: _Optional[str] = ..., strict: _Optional[bool] = ..., cache: _Optional[_Union[CacheMarker, _Mapping]] = ..., extra: _Optional[_Union[Extra, _Mapping]] = ..., custom: _Optional[bool] = ...) -> None: ...

class ForeignTool(_message.Message):
    __slots__ = ("dialect", "kind", "raw")
    DIALECT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    dialect: str
    kind: str
    raw: str
    def __init__(self, dialect: _Optional[str] = ..., kind: _Optional[str] = ..., raw: _Optional[str] = ...) -> None: ...

class Tool(_message.Message):
    __slots__ = ("function", "foreign")
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    FOREIGN_FIELD_NUMBER: _ClassVar[int]
    function: FunctionTool
    foreign: ForeignTool
    def __init__(self, function: _Optional[_Union[FunctionTool, _Mapping]] = ..., foreign: _Optional[_Union[ForeignTool, _Mapping]] = ...) -> None: ...

class ToolChoice(_message.Message):
    __slots__ = ("mode", "name")
    class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        MODE_UNSPECIFIED: _ClassVar[ToolChoice.Mode]
        AUTO: _ClassVar[ToolChoice.Mode]
        NONE: _ClassVar[ToolChoice.Mode]
        REQUIRED: _ClassVar[ToolChoice.Mode]
        NAMED: _ClassVar[ToolChoice.Mode]
    MODE_UNSPECIFIED: ToolChoice.Mode
    AUTO: ToolChoice.Mode
    NONE: ToolChoice.Mode
    REQUIRED: ToolChoice.Mode
    NAMED: ToolChoice.Mode
    MODE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    mode: ToolChoice.Mode
    name: str
    def __init__(self, mode: _Optional[_Union[ToolChoice.Mode, str]] = ..., name: _Optional[str] = ...) -> None: ...

class JsonObject(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class JsonSchema(_message.Message):
    __slots__ = ("schema", "name", "description", "strict")
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    STRICT_FIELD_NUMBER: _ClassVar[int]
    schema: str
    name: str
    description: str
    strict: bool
    def __init__(self, schema: _Optional[str] = ..., name: _Optional[str] = ..., description: _Optional[str] = ..., strict: _Optional[bool] = ...) -> None: ...

class ResponseFormat(_message.Message):
    __slots__ = ("json_object", "json_schema")
    JSON_OBJECT_FIELD_NUMBER: _ClassVar[int]
    JSON_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    json_object: JsonObject
    json_schema: JsonSchema
    def __init__(self, json_object: _Optional[_Union[JsonObject, _Mapping]] = ..., json_schema: _Optional[_Union[JsonSchema, _Mapping]] = ...) -> None: ...

class Reasoning(_message.Message):
    __slots__ = ("mode", "effort", "budget_tokens", "display")
    class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        MODE_UNSPECIFIED: _ClassVar[Reasoning.Mode]
        ENABLED: _ClassVar[Reasoning.Mode]
        DISABLED: _ClassVar[Reasoning.Mode]
        ADAPTIVE: _ClassVar[Reasoning.Mode]
    MODE_UNSPECIFIED: Reasoning.Mode
    ENABLED: Reasoning.Mode
    DISABLED: Reasoning.Mode
    ADAPTIVE: Reasoning.Mode
    MODE_FIELD_NUMBER: _ClassVar[int]
    EFFORT_FIELD_NUMBER: _ClassVar[int]
    BUDGET_TOKENS_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_FIELD_NUMBER: _ClassVar[int]
    mode: Reasoning.Mode
    effort: str
    budget_tokens: int
    display: str
    def __init__(self, mode: _Optional[_Union[Reasoning.Mode, str]] = ..., effort: _Optional[str] = ..., budget_tokens: _Optional[int] = ..., display: _Optional[str] = ...) -> None: ...

class ChatRequest(_message.Message):
    __slots__ = ("model", "messages", "tools", "tool_choice", "parallel_tool_calls", "max_output_tokens", "temperature", "top_p", "top_k", "stop", "seed", "presence_penalty", "frequency_penalty", "choices", "logprobs", "top_logprobs", "response_format", "reasoning", "stream", "user", "service_tier", "cache", "prompt_cache_key", "extra")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    TOOL_CHOICE_FIELD_NUMBER: _ClassVar[int]
    PARALLEL_TOOL_CALLS_FIELD_NUMBER: _ClassVar[int]
    MAX_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    PRESENCE_PENALTY_FIELD_NUMBER: _ClassVar[int]
    FREQUENCY_PENALTY_FIELD_NUMBER: _ClassVar[int]
    CHOICES_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    TOP_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FORMAT_FIELD_NUMBER: _ClassVar[int]
    REASONING_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    SERVICE_TIER_FIELD_NUMBER: _ClassVar[int]
    CACHE_FIELD_NUMBER: _ClassVar[int]
    PROMPT_CACHE_KEY_FIELD_NUMBER: _ClassVar[int]
    EXTRA_FIELD_NUMBER: _ClassVar[int]
    model: str
    messages: _containers.RepeatedCompositeFieldContainer[Message]
    tools: _containers.RepeatedCompositeFieldContainer[Tool]
    tool_choice: ToolChoice
    parallel_tool_calls: bool
    max_output_tokens: int
    temperature: float
    top_p: float
    top_k: int
    stop: _containers.RepeatedScalarFieldContainer[str]
    seed: int
    presence_penalty: float
    frequency_penalty: float
    choices: int
    logprobs: bool
    top_logprobs: int
    response_format: ResponseFormat
    reasoning: Reasoning
    stream: bool
    user: str
    service_tier: str
    cache: CacheMarker
    prompt_cache_key: str
    extra: Extra
    def __init__(self, model: _Optional[str] = ..., messages: _Optional[_Iterable[_Union[Message, _Mapping]]] = ..., tools: _Optional[_Iterable[_Union[Tool, _Mapping]]] = ..., tool_choice: _Optional[_Union[ToolChoice, _Mapping]] = ..., parallel_tool_calls: _Optional[bool] = ..., max_output_tokens: _Optional[int] = ..., temperature: _Optional[float] = ..., top_p: _Optional[float] = ..., top_k: _Optional[int] = ..., stop: _Optional[_Iterable[str]] = ..., seed: _Optional[int] = ..., presence_penalty: _Optional[float] = ..., frequency_penalty: _Optional[float] = ..., choices: _Optional[int] = ..., logprobs: _Optional[bool] = ..., top_logprobs: _Optional[int] = ..., response_format: _Optional[_Union[ResponseFormat, _Mapping]] = ..., reasoning: _Optional[_Union[Reasoning, _Mapping]] = ..., stream: _Optional[bool] = ..., user: _Optional[str] = ..., service_tier: _Optional[str] = ..., cache: _Optional[_Union[CacheMarker, _Mapping]] = ..., prompt_cache_key: _Optional[str] = ..., extra: _Optional[_Union[Extra, _Mapping]] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens", "output_tokens", "reasoning_tokens", "input_audio_tokens", "output_audio_tokens", "source")
    class Source(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        NONE: _ClassVar[Usage.Source]
        REPORTED: _ClassVar[Usage.Source]
        REBUILT: _ClassVar[Usage.Source]
        ESTIMATED: _ClassVar[Usage.Source]
    NONE: Usage.Source
    REPORTED: Usage.Source
    REBUILT: Usage.Source
    ESTIMATED: Usage.Source
    INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHE_READ_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHE_WRITE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHE_WRITE_1H_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    REASONING_TOKENS_FIELD_NUMBER: _ClassVar[int]
    INPUT_AUDIO_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_AUDIO_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cache_write_1h_tokens: int
    output_tokens: int
    reasoning_tokens: int
    input_audio_tokens: int
    output_audio_tokens: int
    source: Usage.Source
    def __init__(self, input_tokens: _Optional[int] = ..., cache_read_tokens: _Optional[int] = ..., cache_write_tokens: _Optional[int] = ..., cache_write_1h_tokens: _Optional[int] = ..., output_tokens: _Optional[int] = ..., reasoning_tokens: _Optional[int] = ..., input_audio_tokens: _Optional[int] = ..., output_audio_tokens: _Optional[int] = ..., source: _Optional[_Union[Usage.Source, str]] = ...) -> None: ...

class TokenLogprob(_message.Message):
    __slots__ = ("token", "logprob", "bytes", "top")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    LOGPROB_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    TOP_FIELD_NUMBER: _ClassVar[int]
    token: str
    logprob: float
    bytes: bytes
    top: _containers.RepeatedCompositeFieldContainer[TokenLogprob]
    def __init__(self, token: _Optional[str] = ..., logprob: _Optional[float] = ..., bytes: _Optional[bytes] = ..., top: _Optional[_Iterable[_Union[TokenLogprob, _Mapping]]] = ...) -> None: ...

class Logprobs(_message.Message):
    __slots__ = ("tokens",)
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedCompositeFieldContainer[TokenLogprob]
    def __init__(self, tokens: _Optional[_Iterable[_Union[TokenLogprob, _Mapping]]] = ...) -> None: ...

class Choice(_message.Message):
    __slots__ = ("index", "parts", "finish", "finish_detail", "logprobs", "extra")
    class Finish(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        FINISH_UNSPECIFIED: _ClassVar[Choice.Finish]
        STOP: _ClassVar[Choice.Finish]
        LENGTH: _ClassVar[Choice.Finish]
        TOOL_CALLS: _ClassVar[Choice.Finish]
        STOP_SEQUENCE: _ClassVar[Choice.Finish]
        CONTENT_FILTER: _ClassVar[Choice.Finish]
        REFUSAL: _ClassVar[Choice.Finish]
        PAUSE: _ClassVar[Choice.Finish]
        CONTEXT_EXCEEDED: _ClassVar[Choice.Finish]
        ERROR: _ClassVar[Choice.Finish]
        OTHER: _ClassVar[Choice.Finish]
    FINISH_UNSPECIFIED: Choice.Finish
    STOP: Choice.Finish
    LENGTH: Choice.Finish
    TOOL_CALLS: Choice.Finish
    STOP_SEQUENCE: Choice.Finish
    CONTENT_FILTER: Choice.Finish
    REFUSAL: Choice.Finish
    PAUSE: Choice.Finish
    CONTEXT_EXCEEDED: Choice.Finish
    ERROR: Choice.Finish
    OTHER: Choice.Finish
    INDEX_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    FINISH_DETAIL_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    EXTRA_FIELD_NUMBER: _ClassVar[int]
    index: int
    parts: _containers.RepeatedCompositeFieldContainer[Part]
    finish: Choice.Finish
    finish_detail: str
    logprobs: Logprobs
    extra: Extra
    def __init__(self, index: _Optional[int] = ..., parts: _Optional[_Iterable[_Union[Part, _Mapping]]] = ..., finish: _Optional[_Union[Choice.Finish, str]] = ..., finish_detail: _Optional[str] = ..., logprobs: _Optional[_Union[Logprobs, _Mapping]] = ..., extra: _Optional[_Union[Extra, _Mapping]] = ...) -> None: ...

class Attempt(_message.Message):
    __slots__ = ("provider", "model", "outcome", "status", "duration_us")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    DURATION_US_FIELD_NUMBER: _ClassVar[int]
    provider: str
    model: str
    outcome: str
    status: int
    duration_us: int
    def __init__(self, provider: _Optional[str] = ..., model: _Optional[str] = ..., outcome: _Optional[str] = ..., status: _Optional[int] = ..., duration_us: _Optional[int] = ...) -> None: ...

class Settlement(_message.Message):
    __slots__ = ("request_id", "outcome", "usage", "cost_nano_usd", "duration_us", "first_byte_us", "attempts", "receipt", "provider", "model", "cache")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    COST_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    DURATION_US_FIELD_NUMBER: _ClassVar[int]
    FIRST_BYTE_US_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CACHE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    outcome: str
    usage: Usage
    cost_nano_usd: int
    duration_us: int
    first_byte_us: int
    attempts: _containers.RepeatedCompositeFieldContainer[Attempt]
    receipt: str
    provider: str
    model: str
    cache: str
    def __init__(self, request_id: _Optional[str] = ..., outcome: _Optional[str] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., cost_nano_usd: _Optional[int] = ..., duration_us: _Optional[int] = ..., first_byte_us: _Optional[int] = ..., attempts: _Optional[_Iterable[_Union[Attempt, _Mapping]]] = ..., receipt: _Optional[str] = ..., provider: _Optional[str] = ..., model: _Optional[str] = ..., cache: _Optional[str] = ...) -> None: ...

class ChatResponse(_message.Message):
    __slots__ = ("id", "model", "choices", "created", "usage", "service_tier", "extra", "settlement")
    ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CHOICES_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    SERVICE_TIER_FIELD_NUMBER: _ClassVar[int]
    EXTRA_FIELD_NUMBER: _ClassVar[int]
    SETTLEMENT_FIELD_NUMBER: _ClassVar[int]
    id: str
    model: str
    choices: _containers.RepeatedCompositeFieldContainer[Choice]
    created: int
    usage: Usage
    service_tier: str
    extra: Extra
    settlement: Settlement
    def __init__(self, id: _Optional[str] = ..., model: _Optional[str] = ..., choices: _Optional[_Iterable[_Union[Choice, _Mapping]]] = ..., created: _Optional[int] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., service_tier: _Optional[str] = ..., extra: _Optional[_Union[Extra, _Mapping]] = ..., settlement: _Optional[_Union[Settlement, _Mapping]] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("code", "message", "hint", "param", "status", "retry_after_seconds", "request_id", "kind", "provider_code", "suggestions")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    HINT_FIELD_NUMBER: _ClassVar[int]
    PARAM_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_SECONDS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_CODE_FIELD_NUMBER: _ClassVar[int]
    SUGGESTIONS_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    hint: str
    param: str
    status: int
    retry_after_seconds: float
    request_id: str
    kind: str
    provider_code: str
    suggestions: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., hint: _Optional[str] = ..., param: _Optional[str] = ..., status: _Optional[int] = ..., retry_after_seconds: _Optional[float] = ..., request_id: _Optional[str] = ..., kind: _Optional[str] = ..., provider_code: _Optional[str] = ..., suggestions: _Optional[_Iterable[str]] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("error", "settlement")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    SETTLEMENT_FIELD_NUMBER: _ClassVar[int]
    error: Error
    settlement: Settlement
    def __init__(self, error: _Optional[_Union[Error, _Mapping]] = ..., settlement: _Optional[_Union[Settlement, _Mapping]] = ...) -> None: ...

class Started(_message.Message):
    __slots__ = ("id", "model", "created", "service_tier", "usage")
    ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    SERVICE_TIER_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    id: str
    model: str
    created: int
    service_tier: str
    usage: Usage
    def __init__(self, id: _Optional[str] = ..., model: _Optional[str] = ..., created: _Optional[int] = ..., service_tier: _Optional[str] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ...) -> None: ...

class PartOpened(_message.Message):
    __slots__ = ("index", "part", "choice")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    CHOICE_FIELD_NUMBER: _ClassVar[int]
    index: int
    part: Part
    choice: int
    def __init__(self, index: _Optional[int] = ..., part: _Optional[_Union[Part, _Mapping]] = ..., choice: _Optional[int] = ...) -> None: ...

class Delta(_message.Message):
    __slots__ = ("index", "text", "choice")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    CHOICE_FIELD_NUMBER: _ClassVar[int]
    index: int
    text: str
    choice: int
    def __init__(self, index: _Optional[int] = ..., text: _Optional[str] = ..., choice: _Optional[int] = ...) -> None: ...

class Signed(_message.Message):
    __slots__ = ("index", "signature", "choice")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    CHOICE_FIELD_NUMBER: _ClassVar[int]
    index: int
    signature: Opaque
    choice: int
    def __init__(self, index: _Optional[int] = ..., signature: _Optional[_Union[Opaque, _Mapping]] = ..., choice: _Optional[int] = ...) -> None: ...

class Cited(_message.Message):
    __slots__ = ("index", "citation", "choice")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    CITATION_FIELD_NUMBER: _ClassVar[int]
    CHOICE_FIELD_NUMBER: _ClassVar[int]
    index: int
    citation: Citation
    choice: int
    def __init__(self, index: _Optional[int] = ..., citation: _Optional[_Union[Citation, _Mapping]] = ..., choice: _Optional[int] = ...) -> None: ...

class PartClosed(_message.Message):
    __slots__ = ("index", "choice")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    CHOICE_FIELD_NUMBER: _ClassVar[int]
    index: int
    choice: int
    def __init__(self, index: _Optional[int] = ..., choice: _Optional[int] = ...) -> None: ...

class LogprobsReported(_message.Message):
    __slots__ = ("tokens", "choice")
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    CHOICE_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedCompositeFieldContainer[TokenLogprob]
    choice: int
    def __init__(self, tokens: _Optional[_Iterable[_Union[TokenLogprob, _Mapping]]] = ..., choice: _Optional[int] = ...) -> None: ...

class Finished(_message.Message):
    __slots__ = ("reason", "detail", "choice")
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    CHOICE_FIELD_NUMBER: _ClassVar[int]
    reason: Choice.Finish
    detail: str
    choice: int
    def __init__(self, reason: _Optional[_Union[Choice.Finish, str]] = ..., detail: _Optional[str] = ..., choice: _Optional[int] = ...) -> None: ...

class Pinged(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Ended(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ChatEvent(_message.Message):
    __slots__ = ("started", "part_opened", "delta", "signed", "cited", "part_closed", "logprobs", "finished", "usage", "ping", "failed", "ended", "settled")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    PART_OPENED_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    SIGNED_FIELD_NUMBER: _ClassVar[int]
    CITED_FIELD_NUMBER: _ClassVar[int]
    PART_CLOSED_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    started: Started
    part_opened: PartOpened
    delta: Delta
    signed: Signed
    cited: Cited
    part_closed: PartClosed
    logprobs: LogprobsReported
    finished: Finished
    usage: Usage
    ping: Pinged
    failed: Error
    ended: Ended
    settled: Settlement
    def __init__(self, started: _Optional[_Union[Started, _Mapping]] = ..., part_opened: _Optional[_Union[PartOpened, _Mapping]] = ..., delta: _Optional[_Union[Delta, _Mapping]] = ..., signed: _Optional[_Union[Signed, _Mapping]] = ..., cited: _Optional[_Union[Cited, _Mapping]] = ..., part_closed: _Optional[_Union[PartClosed, _Mapping]] = ..., logprobs: _Optional[_Union[LogprobsReported, _Mapping]] = ..., finished: _Optional[_Union[Finished, _Mapping]] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., ping: _Optional[_Union[Pinged, _Mapping]] = ..., failed: _Optional[_Union[Error, _Mapping]] = ..., ended: _Optional[_Union[Ended, _Mapping]] = ..., settled: _Optional[_Union[Settlement, _Mapping]] = ...) -> None: ...

class TokenCount(_message.Message):
    __slots__ = ("input_tokens", "is_estimate")
    INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    IS_ESTIMATE_FIELD_NUMBER: _ClassVar[int]
    input_tokens: int
    is_estimate: bool
    def __init__(self, input_tokens: _Optional[int] = ..., is_estimate: _Optional[bool] = ...) -> None: ...

class TokenIds(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, ids: _Optional[_Iterable[int]] = ...) -> None: ...

class EmbedInput(_message.Message):
    __slots__ = ("text", "tokens")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    text: str
    tokens: TokenIds
    def __init__(self, text: _Optional[str] = ..., tokens: _Optional[_Union[TokenIds, _Mapping]] = ...) -> None: ...

class EmbedRequest(_message.Message):
    __slots__ = ("model", "inputs", "dimensions", "user", "task", "title", "extra")
    class Task(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        TASK_UNSPECIFIED: _ClassVar[EmbedRequest.Task]
        QUERY: _ClassVar[EmbedRequest.Task]
        DOCUMENT: _ClassVar[EmbedRequest.Task]
        SIMILARITY: _ClassVar[EmbedRequest.Task]
        CLASSIFICATION: _ClassVar[EmbedRequest.Task]
        CLUSTERING: _ClassVar[EmbedRequest.Task]
        QUESTION_ANSWERING: _ClassVar[EmbedRequest.Task]
        FACT_VERIFICATION: _ClassVar[EmbedRequest.Task]
        CODE_QUERY: _ClassVar[EmbedRequest.Task]
    TASK_UNSPECIFIED: EmbedRequest.Task
    QUERY: EmbedRequest.Task
    DOCUMENT: EmbedRequest.Task
    SIMILARITY: EmbedRequest.Task
    CLASSIFICATION: EmbedRequest.Task
    CLUSTERING: EmbedRequest.Task
    QUESTION_ANSWERING: EmbedRequest.Task
    FACT_VERIFICATION: EmbedRequest.Task
    CODE_QUERY: EmbedRequest.Task
    MODEL_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    EXTRA_FIELD_NUMBER: _ClassVar[int]
    model: str
    inputs: _containers.RepeatedCompositeFieldContainer[EmbedInput]
    dimensions: int
    user: str
    task: EmbedRequest.Task
    title: str
    extra: Extra
    def __init__(self, model: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[EmbedInput, _Mapping]]] = ..., dimensions: _Optional[int] = ..., user: _Optional[str] = ..., task: _Optional[_Union[EmbedRequest.Task, str]] = ..., title: _Optional[str] = ..., extra: _Optional[_Union[Extra, _Mapping]] = ...) -> None: ...

class Embedding(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, values: _Optional[_Iterable[float]] = ...) -> None: ...

class EmbedResponse(_message.Message):
    __slots__ = ("model", "vectors", "usage", "settlement")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    SETTLEMENT_FIELD_NUMBER: _ClassVar[int]
    model: str
    vectors: _containers.RepeatedCompositeFieldContainer[Embedding]
    usage: Usage
    settlement: Settlement
    def __init__(self, model: _Optional[str] = ..., vectors: _Optional[_Iterable[_Union[Embedding, _Mapping]]] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., settlement: _Optional[_Union[Settlement, _Mapping]] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Model(_message.Message):
    __slots__ = ("id", "owner", "created", "display_name", "context_tokens", "max_output_tokens")
    ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    id: str
    owner: str
    created: int
    display_name: str
    context_tokens: int
    max_output_tokens: int
    def __init__(self, id: _Optional[str] = ..., owner: _Optional[str] = ..., created: _Optional[int] = ..., display_name: _Optional[str] = ..., context_tokens: _Optional[int] = ..., max_output_tokens: _Optional[int] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ...) -> None: ...

class GetServerInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Limits(_message.Message):
    __slots__ = ("requests_per_minute", "tokens_per_minute", "concurrent", "request_bytes", "call_seconds")
    REQUESTS_PER_MINUTE_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PER_MINUTE_FIELD_NUMBER: _ClassVar[int]
    CONCURRENT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_BYTES_FIELD_NUMBER: _ClassVar[int]
    CALL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    requests_per_minute: int
    tokens_per_minute: int
    concurrent: int
    request_bytes: int
    call_seconds: float
    def __init__(self, requests_per_minute: _Optional[int] = ..., tokens_per_minute: _Optional[int] = ..., concurrent: _Optional[int] = ..., request_bytes: _Optional[int] = ..., call_seconds: _Optional[float] = ...) -> None: ...

class ServerInfo(_message.Message):
    __slots__ = ("name", "version", "protocols", "media_types", "tenant", "key", "limits", "models", "default_model")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOLS_FIELD_NUMBER: _ClassVar[int]
    MEDIA_TYPES_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_MODEL_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    protocols: _containers.RepeatedScalarFieldContainer[str]
    media_types: _containers.RepeatedScalarFieldContainer[str]
    tenant: str
    key: str
    limits: Limits
    models: _containers.RepeatedCompositeFieldContainer[Model]
    default_model: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., protocols: _Optional[_Iterable[str]] = ..., media_types: _Optional[_Iterable[str]] = ..., tenant: _Optional[str] = ..., key: _Optional[str] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ..., default_model: _Optional[str] = ...) -> None: ...
