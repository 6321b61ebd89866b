"""The end of a tenant's results: what may go, in which order, and the removal of the bytes."""
