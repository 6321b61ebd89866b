"""``sql@v1`` on Daft, in its own process or on a Ray cluster: needs the extra ``cluster``."""
