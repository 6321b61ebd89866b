"""Ask a REST catalog under the identity of the caller, in place of the server's own."""
