"""Exercise 4.2: warm-up and cosine."""

import math

import torch

from vitlab.checks.engine import Exercise


def _schedule_cases(generator):
    yield 0, 100, 10, 1.0
    steps = int(torch.randint(50, 200, (), generator=generator))
    for warmup_steps in (steps // 5, 0):
        for step in (0, 1, warmup_steps // 2, warmup_steps, (steps + warmup_steps) // 2, steps - 1):
            yield step, steps, warmup_steps, 4.0


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


def _cut_to_whole(step, steps, warmup_steps, peak):
    rising = step < warmup_steps
    return peak * ((step + 1) // warmup_steps) if rising else _learning_rate(step, steps, warmup_steps, peak)


def _warmup(rise):
    """A schedule that is right after the warm-up; `rise` takes the step and the warm-up's length."""

    def learning_rate(step, steps, warmup_steps, peak):
        if step < warmup_steps:
            return peak * rise(step, warmup_steps)
        return _learning_rate(step, steps, warmup_steps, peak)

    return learning_rate


_one_step_more = _warmup(lambda step, warmup_steps: (step + 1) / (warmup_steps + 1))
_one_step_less = _warmup(lambda step, warmup_steps: (step + 1) / max(1, warmup_steps - 1))


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
_one_step_behind = _after_warmup(lambda done, left: (1 + math.cos(math.pi * (done - 1) / left)) / 2)
_whole_period = _after_warmup(lambda done, left: (1 + math.cos(2 * math.pi * done / left)) / 2)
_half_the_peak = _after_warmup(lambda done, left: (1 + math.cos(math.pi * done / left)) / 4)
_squared = _after_warmup(lambda done, left: math.cos(math.pi / 2 * done / left) ** 4)
_sine = _after_warmup(lambda done, left: (1 + math.sin(math.pi * done / left)) / 2)
_not_to_zero = _after_warmup(lambda done, left: 0.1 + 0.45 * (1 + math.cos(math.pi * done / left)))
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


def _warmup_not_subtracted(step, steps, warmup_steps, peak):
    if step < warmup_steps:
        return _learning_rate(step, steps, warmup_steps, peak)
    return peak * (1 + math.cos(math.pi * step / (steps - warmup_steps))) / 2


def _both_at_once(step, steps, warmup_steps, peak):
    rise = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    return rise * _learning_rate(step, steps, 0, peak)


def _peak_added(step, steps, warmup_steps, peak):
    cosine = math.cos(math.pi * (step - warmup_steps) / (steps - warmup_steps))
    rising = step < warmup_steps
    return _learning_rate(step, steps, warmup_steps, peak) if rising else (peak + cosine) / 2


def _factor_alone(step, steps, warmup_steps, peak):
    return _learning_rate(step, steps, warmup_steps, 1.0)


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
            _cut_to_whole,
            "`//` cuts the warm-up to whole numbers: 0 up to the peak; divide with `/`.",
        ),
        (_one_step_more, "the warm-up is divided by warmup_steps + 1, and does not reach the peak."),
        (_one_step_less, "the warm-up is divided by warmup_steps - 1, and goes beyond the peak."),
        (
            _cosine_from_step_zero,
            "the cosine counts from step 0; it starts after the warm-up and spans the steps left.",
        ),
        (
            _warmup_not_subtracted,
            "the cosine is `warmup_steps` ahead: what it has done is step - warmup_steps, not step.",
        ),
        (
            _both_at_once,
            "the cosine falls during the warm-up already; it starts after it and spans the steps left.",
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
        (
            _one_step_behind,
            "the cosine is a step behind: step `warmup_steps` is its first, 0 steps on its way.",
        ),
        (_whole_period, "this is a whole period, which comes back to the peak; use half of one."),
        (_half_the_peak, "this is halved twice: (1 + cos) / 2 runs from 1 to 0, so it starts at the peak."),
        (_squared, "half a cosine is there, but squared."),
        (_sine, "this is a sine; the cosine is at its highest where it starts."),
        (_not_to_zero, "the rate ends well above zero; half a cosine takes it down to it."),
        (_peak_added, "the peak is added; (1 + cos) / 2 has to be multiplied by it."),
        (_rising, "1 - cos rises from 0 to 2; it is 1 + cos that falls."),
        (_below_zero, "cos runs from 1 to -1, and a rate below zero unlearns; use (1 + cos) / 2."),
        (_in_degrees, "math.cos takes radians: half a period is π of them, not 180."),
        (_only_cosine_halved, "only the cosine is halved: it is (1 + cos) / 2."),
        (_without_pi, "the cosine runs over one radian; half a period is π of them."),
        (_without_peak, "after the warm-up the peak is missing: the cosine has to be multiplied by it."),
        (_factor_alone, "the peak is missing: the rates are those for a peak of 1."),
        (
            _never_falls,
            "after the warm-up the rate stays at its peak; it must fall to zero (`//` cuts progress to 0).",
        ),
    ],
)
