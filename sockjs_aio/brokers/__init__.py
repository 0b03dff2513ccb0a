"""Brokers carry the messages of channels from process to process."""
