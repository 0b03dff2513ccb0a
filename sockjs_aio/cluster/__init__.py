"""Run one service in several processes, on one host or on many."""
