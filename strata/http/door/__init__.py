"""What happens to a request before any route sees it: identity, rates, body, admission."""
