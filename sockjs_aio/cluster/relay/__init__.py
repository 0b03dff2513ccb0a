"""Hands requests on to another process, which has their session, and its answer to the client."""
