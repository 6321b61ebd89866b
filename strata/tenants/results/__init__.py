"""What is asked of finished results: reading, listing, lineage, cache warming."""
