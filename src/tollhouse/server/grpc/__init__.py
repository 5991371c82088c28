"""The gRPC front doors: one server in each worker, with a service of its own for each protocol.

Nothing outside this package imports it before gRPC is known to be wanted: the library takes a fifth of a second to load.
"""
