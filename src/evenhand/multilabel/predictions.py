"""What multi-label estimators share once they are fitted: probabilities, label sets and their score.

An estimator says what it makes of X (`_fitted_inputs`) and the scores of its rows (`_score_chunks`);
calibration and decoders are learned here from what it said of rows it had not seen.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.preprocessing import MultiLabelBinarizer
from sklearn.utils.validation import check_is_fitted

from evenhand.multilabel.decoding import Decoder, GlobalThreshold, LabelThresholds, MacroF1, PooledCalibration
from evenhand.multilabel.metrics import confusion, f1
from evenhand.multilabel.scores import top_k
from evenhand.multilabel.targets import is_tag_lists, named_sets

DecoderName = Literal["micro", "macro", "per_label", "macro_f1"]


class LabelSetPredictor(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """The methods that follow `fit`, which sets ``classes_``, ``label_counts_``, ``n_train_`` and
    ``sparse_labels_`` and calls `_learn_decisions`.
    """

    decoder: str
    max_dense_bytes: int
    classes_: npt.NDArray[Any]
    label_counts_: npt.NDArray[np.int64]
    n_train_: int
    sparse_labels_: bool

    @abstractmethod
    def _fitted_inputs(self, X: Any) -> Any:
        """X, checked, as the estimator reads it; its length is the number of instances."""

    @abstractmethod
    def _score_chunks(self, inputs: Any) -> Iterator[npt.NDArray[Any]]:
        """The team's scores before calibration, some rows at a time, in order."""

    def _learn_decisions(self, held_out: tuple[npt.NDArray[Any], sparse.csr_array[Any]] | None) -> None:
        """Learn probabilities and thresholds from the team's scores of rows it had not seen, and their y.

        None: there are no such rows; nothing is calibrated and every decoder is a threshold at 0.5.
        """
        half = GlobalThreshold.from_state({"kind": "GlobalThreshold", "objective": "micro", "threshold": 0.5})
        self.calibration_: PooledCalibration | None = None
        self.decoders_: dict[str, Decoder] = dict.fromkeys(get_args(DecoderName), half)
        self.held_out_f1_: npt.NDArray[np.float64] | None = None
        if held_out is None:
            return
        scores, labels = held_out
        self.calibration_ = PooledCalibration().fit(scores, labels)
        probabilities = self._probabilities(scores)
        self.decoders_ = {
            "micro": GlobalThreshold("micro").fit(probabilities, labels),
            "macro": GlobalThreshold("macro").fit(probabilities, labels),
            "per_label": LabelThresholds().fit(probabilities, labels),
            "macro_f1": MacroF1(),
        }
        self.held_out_f1_ = confusion(labels, self.decoders_["micro"].decode(probabilities)).f1

    def _probabilities(self, fused: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """p̄, a constant for labels that training never saw."""
        p: npt.NDArray[Any] = (
            expit(fused) if self.calibration_ is None else self.calibration_.transform(fused)
        )
        p[:, self.label_counts_ == 0] = 0.5 / (self.n_train_ + 1)
        return p

    def decision_function(self, X: Any) -> npt.NDArray[Any]:
        """The team's calibrated log-odds.

        Parameters
        ----------
        X : as in `fit`

        Returns
        -------
        ndarray, shape (n, L)

        Raises
        ------
        ValueError
            If the array would be larger than ``max_dense_bytes``, or X does not fit the training data.
        """
        p = self.predict_proba(X)
        kind = np.finfo(p.dtype)
        scores: npt.NDArray[Any] = logit(np.clip(p, kind.tiny, 1 - kind.epsneg))  # 0 and 1 have no logit
        return scores

    def predict_proba(self, X: Any) -> npt.NDArray[Any]:
        """The probability of every label.

        Parameters
        ----------
        X : as in `fit`

        Returns
        -------
        ndarray, shape (n, L)

        Raises
        ------
        ValueError
            If the array would be larger than ``max_dense_bytes``, or X does not fit the training data.
        """
        inputs = self._fitted_inputs(X)
        self._check_budget(len(inputs), "use predict_topk(X, k)")
        return np.concatenate(list(self._chunks(inputs)))

    def predict_topk(self, X: Any, k: int) -> sparse.csr_array[Any]:
        """The k most probable labels of each instance.

        Parameters
        ----------
        X : as in `fit`
        k : int

        Returns
        -------
        csr_array, shape (n, L)
            Their probabilities, in the order of label ids; at most k a row.
        """
        inputs = self._fitted_inputs(X)
        best = [top_k(p, k) for p in self._chunks(inputs)]
        return sparse.csr_array(sparse.vstack(best, format="csr"))

    def predict(self, X: Any, decoder: str | None = None) -> Any:
        """Label sets.

        Parameters
        ----------
        X : as in `fit`
        decoder : {"micro", "macro", "per_label", "macro_f1"}, optional
            Instead of the estimator's own.

        Returns
        -------
        csr_array or ndarray of int, shape (n, L)
            Sparse where the training labels were.

        Raises
        ------
        ValueError
            If the decoder is unknown, X does not fit the training data, or by decoder macro_f1 the
            probabilities of all instances would be larger than ``max_dense_bytes``.
        """
        inputs = self._fitted_inputs(X)
        name = self.decoder if decoder is None else decoder
        if name not in self.decoders_:
            raise ValueError(f"decoder is {name!r}; choose one of {', '.join(self.decoders_)}")
        if isinstance(self.decoders_[name], MacroF1):  # it weighs all instances against each other
            self._check_budget(len(inputs), "use another decoder, or a larger max_dense_bytes by set_params")
            sets = self.decoders_[name].decode(np.concatenate(list(self._chunks(inputs))))
        else:
            parts = [self.decoders_[name].decode(p) for p in self._chunks(inputs)]
            sets = sparse.csr_array(sparse.vstack(parts, format="csr"))
        return sets if self.sparse_labels_ else sets.toarray().astype(np.int64)

    def label_sets(self, Y: Any) -> list[tuple[Any, ...]]:
        """The names of the labels of each row of what `predict` returned.

        Parameters
        ----------
        Y : sparse or dense matrix, shape (n, L)

        Returns
        -------
        list of tuple
        """
        check_is_fitted(self)
        return named_sets(Y, self.classes_)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Micro-F1 of `predict`: the share of exactly right label sets says little where labels are many.

        Parameters
        ----------
        X : as in `fit`
        y : sparse or dense matrix, shape (n, L), or sequence of collections of str
            Tags that training did not know are missed ones.
        sample_weight : None
            Not supported.

        Returns
        -------
        float

        Raises
        ------
        NotFittedError
            If there was no `fit`.
        ValueError
            If there are weights, or X or y is wrong.
        """
        check_is_fitted(self)
        if sample_weight is not None:
            raise ValueError("score takes no sample_weight; compute a weighted metric from predict instead")
        if not is_tag_lists(y):
            return f1(y, self.predict(X)).micro
        unknown = sorted({tag for tags in y for tag in tags}.difference(self.classes_))
        names = [*self.classes_, *unknown]
        sets = sparse.csr_array(self.predict(X))
        parts = (sets.data, sets.indices, sets.indptr)
        sets = sparse.csr_array(parts, shape=(sets.shape[0], len(names)))
        truth = MultiLabelBinarizer(classes=names, sparse_output=True).fit_transform(y)
        return f1(truth, sets).micro

    def _check_budget(self, n: int, mend: str) -> None:
        needed = n * len(self.classes_) * 4
        if needed > self.max_dense_bytes:
            raise ValueError(
                f"{n} instances x {len(self.classes_)} labels are an array of {_size(needed)}, more than"
                f" max_dense_bytes ({_size(self.max_dense_bytes)}); {mend}"
            )

    def _chunks(self, inputs: Any) -> Iterator[npt.NDArray[Any]]:
        """Probabilities, some rows at a time."""
        for scores in self._score_chunks(inputs):
            yield self._probabilities(scores)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = False
        tags.target_tags.two_d_labels = True
        tags.classifier_tags.multi_label = True
        tags.classifier_tags.multi_class = False
        return tags


def _size(n_bytes: float) -> str:
    """A number of bytes for people."""
    return f"{n_bytes / 2**30:.1f} GiB" if n_bytes >= 1 << 30 else f"{n_bytes / 2**20:.3g} MiB"
