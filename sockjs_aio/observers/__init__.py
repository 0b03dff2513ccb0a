"""Observers: the log, and what measures a service."""
