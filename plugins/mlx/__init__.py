"""MLX-LM for xinfer."""
