"""The gRPC protocols: `.proto` files, and the code that `tools/build_proto.py` generates from them.

Importing the generated modules needs the extra `grpc`.
"""
