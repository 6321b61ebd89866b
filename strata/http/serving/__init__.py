"""From sockets to ASGI: accept, connection, HTTP/1.1, bytes out."""
