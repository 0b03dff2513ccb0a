"""Serve one port with several processes on one host."""
