"""Run one service on several hosts, which find each other's sessions through Redis."""
