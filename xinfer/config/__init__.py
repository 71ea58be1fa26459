"""What was asked for: Hydra composes it, and every word is checked."""
