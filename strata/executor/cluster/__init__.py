"""``sql@v1`` on Daft and Ray, and ``python@v1`` on Dask: needs the extra ``cluster``."""
