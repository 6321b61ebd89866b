"""What a scan asks for: parameters, columns, predicates, cell grants."""
