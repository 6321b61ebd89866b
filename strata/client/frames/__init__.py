"""Results in other libraries: pandas, Polars, DuckDB and DataFusion."""
