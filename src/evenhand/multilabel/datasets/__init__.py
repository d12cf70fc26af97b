"""Named data sets: Debian's package index, and a synthetic long tail where no real data can be had."""

from evenhand.multilabel.datasets.apt import DatasetUnavailable
from evenhand.multilabel.datasets.debian import debian_depends, debian_split, debian_tags
from evenhand.multilabel.datasets.synthetic import make_long_tail

__all__ = ["DatasetUnavailable", "debian_depends", "debian_split", "debian_tags", "make_long_tail"]
