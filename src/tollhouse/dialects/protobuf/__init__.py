"""Tollhouse's own typed protocol, in protobuf and in JSON: what a typed client speaks, and one Tollhouse with another.

`typed` gives the dialect.  `messages` is the table from which both forms follow; `reports` has what the protocol says beside
the conversation.  Only `binary` imports the protobuf library.
"""

from tollhouse.dialects.protobuf.dialect import Form, Typed, TypedTraits, has_protobuf, typed, wire

__all__ = ["Form", "Typed", "TypedTraits", "has_protobuf", "typed", "wire"]
