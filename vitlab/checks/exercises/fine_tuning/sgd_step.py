"""Exercise 5.3: one step of SGD as the paper fine-tunes."""

import math

import torch

from vitlab.checks.engine import Exercise


def _step_cases(generator):
    def case(size, learning_rate, clip_norm):
        shapes = (3, 4), (4,), (2, 3, 2)

        def drawn(scale):
            return [scale * torch.randn(shape, generator=generator) for shape in shapes]

        return drawn(1.0), drawn(size), drawn(0.5), learning_rate, clip_norm

    yield case(2.0, 0.1, 1.0)
    yield case(0.05, 0.3, 1.0)  # small gradients: nothing to clip
    yield case(3.0, 0.03, 0.5)


def _sgd_step(weights, gradients, velocities, learning_rate, clip_norm):
    squares = sum(value**2 for gradient in gradients for value in gradient.double().flatten().tolist())
    return _step(weights, gradients, velocities, learning_rate, min(1.0, clip_norm / math.sqrt(squares)))


def _step(weights, gradients, velocities, learning_rate, scale, momentum=0.9, dampening=0.0):
    """One step with each gradient times `scale`, a number or one for each."""
    scales = scale if isinstance(scale, list) else [scale] * len(gradients)
    moved = [
        momentum * v + (1 - dampening) * s * g for v, g, s in zip(velocities, gradients, scales, strict=True)
    ]
    return [w - learning_rate * v for w, v in zip(weights, moved, strict=True)], moved


def _norm(gradients):
    return math.sqrt(sum((gradient.double() ** 2).sum().item() for gradient in gradients))


def _not_clipped(weights, gradients, velocities, learning_rate, clip_norm):
    return _step(weights, gradients, velocities, learning_rate, 1.0)


def _clipped_one_by_one(weights, gradients, velocities, learning_rate, clip_norm):
    scales = [min(1.0, clip_norm / _norm([gradient])) for gradient in gradients]
    return _step(weights, gradients, velocities, learning_rate, scales)


def _always_scaled(weights, gradients, velocities, learning_rate, clip_norm):
    return _step(weights, gradients, velocities, learning_rate, clip_norm / _norm(gradients))


def _clamped(weights, gradients, velocities, learning_rate, clip_norm):
    clamped = [gradient.clamp(-clip_norm, clip_norm) for gradient in gradients]
    return _step(weights, clamped, velocities, learning_rate, 1.0)


def _no_momentum(weights, gradients, velocities, learning_rate, clip_norm):
    scale = min(1.0, clip_norm / _norm(gradients))
    return _step(weights, gradients, velocities, learning_rate, scale, momentum=0.0)


def _averaged(weights, gradients, velocities, learning_rate, clip_norm):
    scale = min(1.0, clip_norm / _norm(gradients))
    return _step(weights, gradients, velocities, learning_rate, scale, dampening=0.9)


def _uphill(weights, gradients, velocities, learning_rate, clip_norm):
    return _sgd_step(weights, gradients, velocities, -learning_rate, clip_norm)


def _old_velocity(weights, gradients, velocities, learning_rate, clip_norm):
    moved = _sgd_step(weights, gradients, velocities, learning_rate, clip_norm)[1]
    return [w - learning_rate * v for w, v in zip(weights, velocities, strict=True)], moved


def _weights_alone(weights, gradients, velocities, learning_rate, clip_norm):
    return _sgd_step(weights, gradients, velocities, learning_rate, clip_norm)[0]


def _norms_added(weights, gradients, velocities, learning_rate, clip_norm):
    scale = min(1.0, clip_norm / sum(_norm([gradient]) for gradient in gradients))
    return _step(weights, gradients, velocities, learning_rate, scale)


def _norm_without_root(weights, gradients, velocities, learning_rate, clip_norm):
    scale = min(1.0, clip_norm / _norm(gradients) ** 2)
    return _step(weights, gradients, velocities, learning_rate, scale)


def _velocities_clipped(weights, gradients, velocities, learning_rate, clip_norm):
    moved = [0.9 * v + g for v, g in zip(velocities, gradients, strict=True)]
    moved = [min(1.0, clip_norm / _norm(moved)) * v for v in moved]
    return [w - learning_rate * v for w, v in zip(weights, moved, strict=True)], moved


def _rate_in_the_velocity(weights, gradients, velocities, learning_rate, clip_norm):
    scale = min(1.0, clip_norm / _norm(gradients))
    moved = [0.9 * v - learning_rate * scale * g for v, g in zip(velocities, gradients, strict=True)]
    return [w + v for w, v in zip(weights, moved, strict=True)], moved


def _rate_in_what_is_added(weights, gradients, velocities, learning_rate, clip_norm):
    scale = learning_rate * min(1.0, clip_norm / _norm(gradients))
    moved = [0.9 * v + scale * g for v, g in zip(velocities, gradients, strict=True)]
    return [w - v for w, v in zip(weights, moved, strict=True)], moved


def _upside_down(weights, gradients, velocities, learning_rate, clip_norm):
    return _step(weights, gradients, velocities, learning_rate, min(1.0, _norm(gradients) / clip_norm))


def _largest_entry(weights, gradients, velocities, learning_rate, clip_norm):
    largest = max(gradient.abs().max().item() for gradient in gradients)
    return _step(weights, gradients, velocities, learning_rate, min(1.0, clip_norm / largest))


def _looking_ahead(weights, gradients, velocities, learning_rate, clip_norm):
    scale = min(1.0, clip_norm / _norm(gradients))
    moved = _step(weights, gradients, velocities, learning_rate, scale)[1]
    ahead = [0.9 * v + scale * g for v, g in zip(moved, gradients, strict=True)]
    return [w - learning_rate * v for w, v in zip(weights, ahead, strict=True)], moved


def _velocities_first(weights, gradients, velocities, learning_rate, clip_norm):
    return _sgd_step(weights, gradients, velocities, learning_rate, clip_norm)[::-1]


EXERCISE = Exercise(
    "5.3",
    "one step of SGD as the paper fine-tunes",
    cases=_step_cases,
    oracle=_sgd_step,
    mistakes=[
        (_not_clipped, "the gradients are not clipped."),
        (_clipped_one_by_one, "each tensor is clipped by itself; one norm is taken over all of them."),
        (_always_scaled, "small gradients are made larger; clipping only ever makes them smaller."),
        (_clamped, "each number is clamped; clipping scales all of them alike and keeps the direction."),
        (_no_momentum, "the velocity forgets what was before: new velocity = 0.9 · old + gradient."),
        (_averaged, "the gradient is weighted with 0.1; PyTorch's momentum adds it whole."),
        (_uphill, "the step goes up the gradient; the learning rate is subtracted."),
        (_old_velocity, "the weights move with the old velocity; they move with the new one."),
        (_weights_alone, "the velocities are missing; return (weights, velocities)."),
        (_norms_added, "the tensors' norms are added; the joint norm is the root of the sum of squares."),
        (_norm_without_root, "this clips by the sum of the squares; the norm is its root."),
        (_velocities_clipped, "the velocities are clipped; clip the gradients, before they are added."),
        (
            _rate_in_the_velocity,
            "the learning rate is in the velocity; it comes in only where the weights move.",
        ),
        (
            _rate_in_what_is_added,
            "the rate is in the velocity, too early; it comes in where weights move.",
        ),
        (_upside_down, "the factor is upside down: norm / clip_norm; it is clip_norm / norm."),
        (_largest_entry, "this clips by the largest entry; the norm is the root of the sum of squares."),
        (_looking_ahead, "this looks a step ahead, as Nesterov does; the new velocity is the step."),
        (_velocities_first, "the two lists are swapped; return (weights, velocities)."),
    ],
)
