"""Table URIs, catalogs and warehouses: which table a URI names, and the table's current metadata."""
