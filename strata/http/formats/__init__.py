"""In which form a result is sent: Arrow, compressed Arrow, Parquet, CSV or JSON lines."""
