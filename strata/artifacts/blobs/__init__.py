"""Bytes of results: files on local disk, optionally copies of blobs in an object store."""
