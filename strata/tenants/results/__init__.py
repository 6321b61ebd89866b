"""Questions about finished results: reading, listing, lineage, cache warming."""
