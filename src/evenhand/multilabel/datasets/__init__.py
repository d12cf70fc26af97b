"""Named data sets: Debian's package index, proteins and their functions, synthetic long tails, pictures."""

from evenhand.multilabel.datasets.apt import DatasetUnavailable
from evenhand.multilabel.datasets.debian import debian_depends, debian_split, debian_tags
from evenhand.multilabel.datasets.kmers import kmer_counts, kmer_names
from evenhand.multilabel.datasets.pictures import make_pictures
from evenhand.multilabel.datasets.proteins import protein_functions
from evenhand.multilabel.datasets.synthetic import make_long_tail

__all__ = [
    "DatasetUnavailable",
    "debian_depends",
    "debian_split",
    "debian_tags",
    "kmer_counts",
    "kmer_names",
    "make_long_tail",
    "make_pictures",
    "protein_functions",
]
