"""What this machine is, by its own account."""
