"""The command ``sockjs-aio doctor URL``: finds out what stands between clients and a service."""
