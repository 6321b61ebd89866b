"""Serve ASGI over sockets: accept, connection, HTTP/1.1, egress."""
