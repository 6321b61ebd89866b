"""The bytes of results: kept on local disk, in memory of a growing result, or in an object store."""
