"""vLLM for xinfer."""
