"""Opening files of a warehouse: confinement, footers, Avro."""
