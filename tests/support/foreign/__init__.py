"""Tables as other engines write them, made by own generators: their metadata, manifests and files."""

from importlib import import_module

from foreign.cases import CASES as TABLES

for _name in ("old_and_odd_metadata", "manifests_and_partitions", "deletes", "types_and_files"):
    import_module(f"foreign.{_name}")

__all__ = ["TABLES"]
