"""Call other HTTP servers: each host is resolved once, and its checked address is the one connected to."""
