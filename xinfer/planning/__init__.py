"""What adapters make plans with: sizes, splits, precisions, artefacts and requirements."""
