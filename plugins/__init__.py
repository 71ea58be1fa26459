"""The engines that ship with xinfer, each an adapter found through the entry-point group ``xinfer.engines``."""
