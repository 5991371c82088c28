"""How the gRPC listener proves who it is."""

import grpc

from tollhouse.config.schema import Config


def server_credentials(config: Config) -> grpc.ServerCredentials | None:
    """The credentials of the listener; `None` for plain text."""
    del config
    return None
