"""Labels in a common label space: classes are matched by name, never by number."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from pruningbench.contract import PruningBenchError, Samples


def labels_in(classes: Sequence[str], samples: Samples, *, whose: str) -> Tensor:
    """Return the samples' labels as positions in `classes`, matched by class name.

    Args:
        classes: the target label space.
        samples: a labelled data set whose classes are among `classes`.
        whose: the owner of `classes`, for the error message.

    Returns:
        (N,) int64 in [0, len(classes)).

    Raises:
        PruningBenchError: for a data set without labels, or with classes that `classes` lacks.
    """
    if samples.labels is None:
        raise PruningBenchError("the data set has no labels to predict")
    labels = samples.labels_among(classes)
    lacking = [name for name in samples.classes if name not in classes]
    if lacking or labels is None:
        problem = f"lacks {_listing(lacking)}" if lacking else "cannot be matched: the data set names no classes"
        raise PruningBenchError(f"label spaces differ: {whose} (classes {_listing(classes)}) {problem}")
    return labels


def shared_labels(train: Samples, test: Samples) -> tuple[Tensor, Tensor]:
    """Return the labels of a training and a test set as positions in the training set's classes.

    Returns:
        (N,) and (M,) int64.

    Raises:
        PruningBenchError: if a set has no labels, the classes differ, or all training labels are equal.
    """
    only_train = sorted(set(train.classes) - set(test.classes))
    only_test = sorted(set(test.classes) - set(train.classes))
    if only_train or only_test:
        raise PruningBenchError(
            "transfer needs the same classes in both data sets; "
            f"only in the training data: {_listing(only_train)}, only in the test data: {_listing(only_test)}"
        )
    labels = labels_in(train.classes, train, whose="the training data")
    if not bool((labels != labels[:1]).any()):
        raise PruningBenchError("transfer needs two classes, but all training labels are the same")
    return labels, labels_in(train.classes, test, whose="the training data")


def _listing(names: Sequence[str], most: int = 10) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown or "none"
