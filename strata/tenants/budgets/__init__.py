"""What bounds memory, disk and cache, and how tenants share them."""
