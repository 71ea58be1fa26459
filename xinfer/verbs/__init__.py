"""What ``xinfer`` can be told to do, and what it prints."""
