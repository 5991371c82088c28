"""The HTTP/1.1 server: sockets in, ASGI out."""
