"""SGLang for xinfer."""
