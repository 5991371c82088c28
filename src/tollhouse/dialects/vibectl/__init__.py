"""The protobuf dialect of the tool vibectl, client side only: see `tollhouse/proto/vibectl.proto`.

What is of one answer is said here; what is of one call (its request id, its metrics, who answered) is added by the gRPC front
door, for the same answer may be given to several calls.
"""

from tollhouse.dialects.vibectl.dialect import DIALECT

__all__ = ["DIALECT"]
