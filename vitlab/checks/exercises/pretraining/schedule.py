"""Exercise 4.2: warm-up and cosine."""

import math

import torch

from vitlab.checks.engine import Exercise


def _schedule_cases(generator):
    yield 0, 100, 10, 1.0
    steps = int(torch.randint(50, 200, (), generator=generator))
    for warmup_steps in (steps // 5, 0):
        for step in (0, 1, warmup_steps // 2, warmup_steps, (steps + warmup_steps) // 2, steps - 1):
            yield step, steps, warmup_steps, 0.004


def _learning_rate(step, steps, warmup_steps, peak):
    rising = [peak * (number + 1) / warmup_steps for number in range(warmup_steps)]
    left = steps - warmup_steps
    falling = [peak * math.cos(math.pi * number / left / 2) ** 2 for number in range(left)]
    return (rising + falling)[step]


def _never_warmed_up(step, steps, warmup_steps, peak):
    return _learning_rate(step, steps, 0, peak)


def _from_zero(step, steps, warmup_steps, peak):
    return (
        peak * step / warmup_steps if step < warmup_steps else _learning_rate(step, steps, warmup_steps, peak)
    )


def _cosine_from_step_zero(step, steps, warmup_steps, peak):
    rising = step < warmup_steps
    return _learning_rate(step, steps, warmup_steps if rising else 0, peak)


def _one_step_too_long(step, steps, warmup_steps, peak):
    over = 0 < warmup_steps == step
    return peak * (step + 1) / warmup_steps if over else _learning_rate(step, steps, warmup_steps, peak)


def _after_warmup(fall):
    """A schedule that is right in the warm-up; `fall` takes the steps since then and all that were left."""

    def learning_rate(step, steps, warmup_steps, peak):
        if step < warmup_steps:
            return _learning_rate(step, steps, warmup_steps, peak)
        return peak * fall(step - warmup_steps, steps - warmup_steps)

    return learning_rate


_at_zero_too_early = _after_warmup(lambda done, left: (1 + math.cos(math.pi * done / (left - 1))) / 2)
_one_step_ahead = _after_warmup(lambda done, left: (1 + math.cos(math.pi * (done + 1) / left)) / 2)
_rising = _after_warmup(lambda done, left: (1 - math.cos(math.pi * done / left)) / 2)
_below_zero = _after_warmup(lambda done, left: math.cos(math.pi * done / left))
_straight_down = _after_warmup(lambda done, left: 1 - done / left)
_quarter_period = _after_warmup(lambda done, left: math.cos(math.pi / 2 * done / left))
_not_halved = _after_warmup(lambda done, left: 1 + math.cos(math.pi * done / left))
_never_falls = _after_warmup(lambda done, left: 1.0)
_in_degrees = _after_warmup(lambda done, left: (1 + math.cos(180 * done / left)) / 2)
_only_cosine_halved = _after_warmup(lambda done, left: 1 + math.cos(math.pi * done / left) / 2)
_without_pi = _after_warmup(lambda done, left: (1 + math.cos(done / left)) / 2)


def _spread_over_all_steps(step, steps, warmup_steps, peak):
    if step < warmup_steps:
        return _learning_rate(step, steps, warmup_steps, peak)
    return peak * (1 + math.cos(math.pi * (step - warmup_steps) / steps)) / 2


def _without_peak(step, steps, warmup_steps, peak):
    rate = _learning_rate(step, steps, warmup_steps, peak)
    return rate if step < warmup_steps else rate / peak


EXERCISE = Exercise(
    "4.2",
    "warm-up and cosine",
    cases=_schedule_cases,
    oracle=_learning_rate,
    tolerance=1e-3,  # in float32, 1 + cos is inexact where it is nearly 0
    mistakes=[
        (_from_zero, "the first step has a rate of zero and learns nothing; count it as step + 1."),
        (
            _cosine_from_step_zero,
            "the cosine counts from step 0; it starts after the warm-up and spans the steps left.",
        ),
        (_never_warmed_up, "there is no warm-up; below warmup_steps the rate rises in a straight line."),
        (_straight_down, "this falls in a straight line; the cosine starts and ends flat."),
        (_quarter_period, "this is a quarter of a cosine's period; use half of one, from 1 to -1."),
        (_not_halved, "1 + cos runs from 2 to 0; halve it."),
        (_one_step_too_long, "the step `warmup_steps` is the first at the peak: `<`, not `<=`."),
        (
            _spread_over_all_steps,
            "the cosine does not reach its end; divide by the steps that are left, steps - warmup_steps.",
        ),
        (
            _at_zero_too_early,
            "the last step has a rate of zero and learns nothing; divide by steps - warmup_steps.",
        ),
        (_one_step_ahead, "the cosine is a step ahead; after the warm-up it starts at the peak itself."),
        (_rising, "1 - cos rises from 0 to 2; it is 1 + cos that falls."),
        (_below_zero, "cos runs from 1 to -1, and a rate below zero unlearns; use (1 + cos) / 2."),
        (_in_degrees, "math.cos takes radians: half a period is π of them, not 180."),
        (_only_cosine_halved, "only the cosine is halved: it is (1 + cos) / 2."),
        (_without_pi, "the cosine runs over one radian; half a period is π of them."),
        (_without_peak, "after the warm-up the peak is missing: the cosine has to be multiplied by it."),
        (_never_falls, "after the warm-up the rate stays at its peak; it must fall to zero."),
    ],
)
