"""The command ``sockjs-aio bench URL``: many sessions, whose messages are numbered and counted."""
