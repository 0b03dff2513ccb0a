"""Several processes that serve one SockJS service: requests find the one with their session."""
