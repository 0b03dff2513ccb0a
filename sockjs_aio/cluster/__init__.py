"""One service in several processes, or on several hosts."""
