"""What tables there are, and what they hold: the answers to `strata.tenants.discovery_messages`."""
