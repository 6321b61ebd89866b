"""Run untrusted computations in child processes, behind walls of the kernel."""
