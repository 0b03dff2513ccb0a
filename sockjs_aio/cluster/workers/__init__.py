"""Several processes on one host that serve one port."""
