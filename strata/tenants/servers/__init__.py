"""Several servers on one metadata database: this one's lease, and builds that run on another one."""
