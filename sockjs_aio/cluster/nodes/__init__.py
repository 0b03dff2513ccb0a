"""Several hosts whose sessions are found through Redis."""
