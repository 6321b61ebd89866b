"""How a result comes about: materialize, plan, scan, write."""
