"""Even-handed learning signals: the training decides how its gradient is shared out, and shows it."""

__version__ = "0.1.0.dev0"
