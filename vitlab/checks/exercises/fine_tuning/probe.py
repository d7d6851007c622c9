"""Exercise 5.4: a linear probe in closed form."""

import math

import torch

from vitlab.checks.engine import Exercise


def _probe_cases(generator):
    def case(n, width, classes, penalty, drawn=None):
        features = torch.randn(n, width, generator=generator)
        labels = torch.arange(n) % (drawn or classes)
        return features, labels[torch.randperm(n, generator=generator)], classes, penalty

    yield case(12, 4, 3, 0.7)
    yield case(9, 5, 4, 3.0, drawn=2)  # of the last classes there is no image
    yield case(6, 8, 4, 0.2)  # more features than images: without the penalty there is no single answer


def _targets(features, labels, classes, low=-1.0):
    targets = torch.full((len(labels), classes), low, dtype=features.dtype)
    targets[range(len(labels)), labels] = 1.0
    return targets


def _stacked(features, labels, classes, penalty, targets=None):
    """A penalty is least squares with one more row √penalty for each weight, and nothing as its target."""
    n, width = features.shape
    targets = _targets(features, labels, classes) if targets is None else targets
    rows = torch.cat([features, math.sqrt(penalty) * torch.eye(width, dtype=features.dtype)]).double()
    wanted = torch.cat([targets, torch.zeros(width, classes, dtype=features.dtype)]).double()
    return (torch.linalg.pinv(rows) @ wanted).to(features.dtype)


def _fit_probe(features, labels, classes, penalty):
    return _stacked(features, labels, classes, penalty)


def _targets_of_zero(features, labels, classes, penalty):
    return _stacked(features, labels, classes, penalty, _targets(features, labels, classes, low=0.0))


def _no_penalty(features, labels, classes, penalty):
    return (torch.linalg.pinv(features.double()) @ _targets(features, labels, classes).double()).to(features)


def _penalty_rooted(features, labels, classes, penalty):
    return _stacked(features, labels, classes, math.sqrt(penalty))


def _penalty_squared(features, labels, classes, penalty):
    return _stacked(features, labels, classes, penalty**2)


def _penalty_everywhere(features, labels, classes, penalty):
    """A number added to a matrix goes to every entry, not to the diagonal alone."""
    gram = features.T @ features + penalty
    return torch.linalg.pinv(gram) @ features.T @ _targets(features, labels, classes)


def _penalty_per_image(features, labels, classes, penalty):
    return _stacked(features, labels, classes, penalty * len(features))


def _probe_transposed(features, labels, classes, penalty):
    return _fit_probe(features, labels, classes, penalty).T


def _predicted_scores(features, labels, classes, penalty):
    return features @ _fit_probe(features, labels, classes, penalty)


def _not_solved(features, labels, classes, penalty):
    return features.T @ _targets(features, labels, classes)


def _one_hot_less_one(features, labels, classes, penalty):
    return _stacked(features, labels, classes, penalty, _targets(features, labels, classes) / 2 - 0.5)


def _counted_classes(features, labels, classes, penalty):
    return _fit_probe(features, labels, int(labels.max()) + 1, penalty)


def _averaged_gram(features, labels, classes, penalty):
    return _stacked(features, labels, classes, penalty * len(features)) * len(features)


def _centred(features, labels, classes, penalty):
    return _stacked(features - features.mean(0), labels, classes, penalty)


def _penalty_subtracted(features, labels, classes, penalty):
    gram = features.T @ features - penalty * torch.eye(features.shape[1])
    return torch.linalg.pinv(gram) @ features.T @ _targets(features, labels, classes)


def _entries_inverted(features, labels, classes, penalty):
    gram = features.T @ features + penalty * torch.eye(features.shape[1])
    return (1 / gram) @ features.T @ _targets(features, labels, classes)


def _images_compared(features, labels, classes, penalty):
    gram = features @ features.T + penalty * torch.eye(len(features), dtype=features.dtype)
    return torch.linalg.solve(gram, _targets(features, labels, classes))


def _signs_swapped(features, labels, classes, penalty):
    return -_fit_probe(features, labels, classes, penalty)


def _standardised(features, labels, classes, penalty):
    return _stacked((features - features.mean(0)) / features.std(0), labels, classes, penalty)


def _with_a_bias(features, labels, classes, penalty):
    return _stacked(torch.cat([features, torch.ones_like(features[:, :1])], dim=1), labels, classes, penalty)


EXERCISE = Exercise(
    "5.4",
    "a linear probe in closed form",
    cases=_probe_cases,
    oracle=_fit_probe,
    mistakes=[
        (_targets_of_zero, "the targets are 0 and 1; wanted are -1 and 1."),
        (_no_penalty, "the penalty is left out."),
        (_penalty_rooted, "this adds the penalty's root; that is for extra rows below the features."),
        (_penalty_squared, "this is the penalty squared."),
        (
            _penalty_everywhere,
            "the penalty is added to every entry of XᵀX; it goes on the diagonal: penalty * torch.eye.",
        ),
        (_penalty_per_image, "the penalty is multiplied by the number of images; here it is not."),
        (_probe_transposed, "the weights are (classes, D); wanted is (D, classes)."),
        (_predicted_scores, "these are the scores of the images; wanted are the weights."),
        (_not_solved, "this is XᵀT, the right-hand side; the equation is still to be solved."),
        (_one_hot_less_one, "the targets are -1 and 0; wanted are -1 and 1: twice the one-hot, less 1."),
        (
            _counted_classes,
            "the classes are counted in the labels, which need not have all of them: use `classes`.",
        ),
        (_averaged_gram, "XᵀX is divided by the number of images, XᵀT is not; neither is wanted."),
        (_centred, "the features' mean is taken off; the formula has X as it is."),
        (_standardised, "the features are brought to mean 0 and deviation 1; the formula has X as it is."),
        (_signs_swapped, "the signs are swapped: 1 is for the right class, -1 for the others."),
        (_with_a_bias, "a column of ones makes a weight more, a bias; the formula has X as it is."),
        (_penalty_subtracted, "the penalty is subtracted from the diagonal; it is added."),
        (_entries_inverted, "1 / A inverts entry by entry; the inverse of a matrix is another thing."),
        (
            _images_compared,
            "this compares images, X Xᵀ, and gives a row for each; Xᵀ X gives one for each feature.",
        ),
    ],
    tolerance=1e-4,
)
