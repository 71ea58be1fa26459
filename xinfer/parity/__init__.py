"""Whether engines say the same."""
