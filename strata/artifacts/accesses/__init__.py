"""Who read what: records of reads, and of reads that were refused."""
