"""What carries the messages of channels from process to process."""
