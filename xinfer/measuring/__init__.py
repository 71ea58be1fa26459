"""Load, raw stamps, the numbers made from them, and the reasons not to believe them."""
