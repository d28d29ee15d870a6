"""Recurrent video object segmentation: models, training, exact scoring and the papers' tables."""

__version__ = "0.2.0"
