"""The linear probe: what can be read off features that nothing has changed (section 4.1)."""

import math
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor

from vitlab.attention import View, pooled_features
from vitlab.attention.reading import view_of
from vitlab.data import Dataset
from vitlab.data.classes import numbers_by_name
from vitlab.data.dataset import check_labels
from vitlab.runtime import Run, here
from vitlab.vit import ViT, evaluating


@torch.no_grad()  # not inference_mode: a head may be trained on what this returns
def features(model: ViT | View, dataset: Dataset, run: Run | None = None, batch_size: int = 500) -> Tensor:
    """What the head would read for every image: (n, D), fp32, on the run's device.

    Of a `ViT`, or a view of any model that `attach` takes: `vitlab.attention.pooled_features` says what is
    read, and images are prepared by the view, which has to know their mean and deviation.

    The tensor remembers, as its attribute `labelled`, the data's labels and the names of their classes, by
    which `linear_probe` knows these labels.

    >>> from vitlab import ViTConfig
    >>> images = torch.zeros(3, 1, 28, 28, dtype=torch.uint8)
    >>> features(ViT(ViTConfig()), Dataset(images, torch.arange(3), ["a", "b", "c"])).shape
    torch.Size([3, 96])
    """
    run = run or here()
    view = view_of(model)
    view.model.to(run.device)
    pooled = []
    with evaluating(view.model), run.autocast():
        for images in dataset.images.split(batch_size):
            pooled.append(pooled_features(view, view.prepare(images.to(run.device))).float())
    together = torch.cat(pooled)
    together.labelled = dataset.labels, list(dataset.classes)
    return together


def linear_probe(
    train_features: Tensor,
    train_labels: Tensor | Dataset,
    test_features: Tensor,
    test_labels: Tensor | Dataset,
    ridge: float = 1e-2,
) -> float:
    """Accuracy in [0, 1] of a linear classifier on frozen features, found in closed form (section 4.1).

    Regularised least squares onto targets of -1 and 1, one column a class, as in the paper's few-shot
    measurements. Features are standardised by the training set's mean and deviation; `ridge` is the
    penalty per training image, above 0; the bias is free.

    Labels are compared by the names of their classes, which are known where a `Dataset` is given in their
    place, and where they are the very ones of the data that `features` read. Labels without names have the
    same numbers in both sets; a warning says so where only one set's have names. Raises ValueError where
    features and labels differ in number, and for classes that the training set does not have.

    >>> x = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.1, 0.9], [0.9, 0.2]])
    >>> linear_probe(x, torch.tensor([0, 1, 0, 1]), x, torch.tensor([0, 1, 0, 1]))
    1.0
    """
    if not 0 < ridge < math.inf:
        raise ValueError(
            f"ridge is above 0, or features that outnumber images have no one answer; got {ridge}"
        )
    train_labels, test_labels, known = matched(train_features, train_labels, test_features, test_labels)
    mean, deviation = train_features.mean(dim=0), train_features.std(dim=0, correction=0) + 1e-6
    # solved on the CPU: Apple's GPUs have no float64
    x, far = (((f - mean) / deviation).cpu().double() for f in (train_features, test_features))
    targets = 2.0 * F.one_hot(train_labels, known).double() - 1  # (n, classes)
    bias = targets.mean(dim=0)  # as the features have mean 0
    predictions = (far @ ridge_weights(x, targets - bias, ridge * len(x)) + bias).argmax(dim=1)
    return float((predictions == test_labels).double().mean())


def knn(
    train_features: Tensor,
    train_labels: Tensor | Dataset,
    test_features: Tensor,
    test_labels: Tensor | Dataset,
    k: int = 5,
) -> float:
    """Accuracy in [0, 1] where each image gets the class of most of its `k` nearest training images.

    Nearest by the cosine of their features, which nothing is fitted to. Where classes have equally many of
    the k, the one wins whose cosines sum to more. Labels are compared as by `linear_probe`, which see for the
    errors; `k` is from 1 to the number of training images.

    >>> x = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.1, 0.9], [0.9, 0.2]])
    >>> knn(x[:2], torch.tensor([0, 1]), x[2:], torch.tensor([0, 1]), k=1)
    1.0
    """
    train_labels, test_labels, known = matched(train_features, train_labels, test_features, test_labels)
    if not isinstance(k, int) or not 1 <= k <= len(train_labels):
        raise ValueError(f"k is from 1 to {len(train_labels)}, the number of training images; got {k!r}")
    near, far = (F.normalize(f.cpu().double(), dim=1) for f in (train_features, test_features))
    cosines, places = (far @ near.T).topk(k, dim=1)  # (n, k) each
    ballots = F.one_hot(train_labels[places], known).double()  # (n, k, classes)
    # together all cosines of an image count for less than half a ballot
    votes = (ballots * (1 + cosines / (2 * k + 1)).unsqueeze(-1)).sum(dim=1)
    return float((votes.argmax(dim=1) == test_labels).double().mean())


def wilson_interval(share: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a true share of which `share` of `n` cases was seen (Wilson 1927).

    It holds for few cases too, and for shares of 0 and 1. Raises ValueError for less than one case, and for a
    share outside [0, 1].

    >>> tuple(round(end, 3) for end in wilson_interval(0.5, 10))
    (0.237, 0.763)
    """
    if n < 1 or not 0 <= share <= 1:
        raise ValueError(f"a share is in [0, 1], of at least 1 case; got {share} of {n}")
    z = 1.959963984540054  # deviations of a normal that hold 95 %
    middle, spread = share + z**2 / (2 * n), z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, (middle - spread) / (1 + z**2 / n)), min(1.0, (middle + spread) / (1 + z**2 / n))


def matched(
    train_features: Tensor,
    train_labels: Tensor | Dataset,
    test_features: Tensor,
    test_labels: Tensor | Dataset,
) -> tuple[Tensor, Tensor, int]:
    """The labels of both sets by the training set's numbers, on the CPU, and how many classes that knows."""
    train_labels, classes = with_names(train_features, train_labels)
    test_labels, others = with_names(test_features, test_labels)
    for x, y in ((train_features, train_labels), (test_features, test_labels)):
        if len(x) != len(y):
            raise ValueError(f"there are features of {len(x)} images, and {len(y)} labels")
    train_labels, test_labels = train_labels.cpu(), test_labels.cpu()
    for labels, names in ((train_labels, classes), (test_labels, others)):
        check_labels(labels, int(labels.max()) + 1 if names is None else len(names))
    if classes is not None and others is not None and classes != others:
        numbers = numbers_by_name(others, classes, "the test set", "the training set")
        test_labels = torch.tensor(numbers)[test_labels]
    if (classes is None) != (others is None):
        known, unknown = ("test", "training") if classes is None else ("training", "test")
        warnings.warn(
            f"classes have names in the {known} set alone, so labels are compared by number; to compare by "
            f"name, give the {unknown} Dataset in place of its labels",
            stacklevel=3,
        )
    known = len(classes) if classes is not None else int(train_labels.max()) + 1
    if (highest := int(test_labels.max())) >= known:
        raise ValueError(
            f"the test labels run to {highest}, those of the training set only to {known - 1}: number both "
            "alike, or give the data sets in place of the labels, whose classes have names"
        )
    return train_labels, test_labels, known


def with_names(features: Tensor, labels: Tensor | Dataset) -> tuple[Tensor, list[str] | None]:
    """Labels (n,) and the names of their classes, where the data set or the features tell them."""
    if isinstance(labels, Dataset):
        return labels.labels, list(labels.classes)
    known, classes = getattr(features, "labelled", (None, None))
    return labels, classes if labels is known else None


def ridge_weights(x: Tensor, targets: Tensor, penalty: float) -> Tensor:
    """W (D, K) that makes |xW - targets|² + penalty · |W|² least, for x (n, D) and targets (n, K).

    There are two ways to write it, and the smaller system, n or D wide, is solved:
    (xᵀx + penalty)⁻¹ xᵀ = xᵀ (xxᵀ + penalty)⁻¹.
    """
    smaller = x if len(x) < x.shape[1] else x.T
    system = smaller @ smaller.T + penalty * torch.eye(len(smaller), dtype=x.dtype, device=x.device)
    if smaller is x:
        return x.T @ torch.linalg.solve(system, targets)
    return torch.linalg.solve(system, x.T @ targets)
