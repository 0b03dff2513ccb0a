"""Relays requests to the process that has their session, and its answers to the client."""
