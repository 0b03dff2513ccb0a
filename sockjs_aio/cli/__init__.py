"""Commands that talk to a service: ``sockjs-aio connect`` and what they share."""
