"""Servers that share one metadata database: which live, which build is whose, and who removes bytes."""
