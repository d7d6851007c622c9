"""Exercise 4.3, find the fault: Adam's step, whose first ones are ten times too long."""

import torch

from vitlab.checks.engine import FindTheFault


def _cases(generator):
    for shape, step, dtype in (
        ((2, 3), 1, torch.float32),
        ((4,), 2, torch.float64),
        ((3, 2), 40, torch.float32),
    ):
        gradient, mean = torch.randn(2, *shape, dtype=dtype, generator=generator)
        square = torch.rand(*shape, dtype=dtype, generator=generator) + 0.1
        yield gradient, mean, square, step


def _right(gradient, mean, square, step):
    """Weights of the gradients so far do not sum to 1 yet: both means are divided by what they do sum to."""
    weights = [sum((1 - kept) * kept**age for age in range(step)) for kept in (0.9, 0.999)]
    mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient.square()
    return (mean / weights[0]) / (square / weights[1]) ** 0.5


def _faulty(gradient, mean, square, step):
    mean = 0.9 * mean + 0.1 * gradient
    square = 0.999 * square + 0.001 * gradient**2
    mean = mean / (1 - 0.9**step)
    square = square / (1 - 0.9**step)
    return mean / square.sqrt()


def _mended(gradient, mean, square, step, kept=0.999, powers=(1, 1), count=0):
    """Without a fault, with parts to get wrong."""
    mean, square = 0.9 * mean + 0.1 * gradient, kept * square + (1 - kept) * gradient**2
    mean = mean / (1 - 0.9 ** (step + count)) ** powers[0]
    square = square / (1 - kept ** (step + count)) ** powers[1]
    return mean / square.sqrt()


def _not_corrected(gradient, mean, square, step):
    return _mended(gradient, mean, square, step, powers=(1, 0))


def _neither_corrected(gradient, mean, square, step):
    return _mended(gradient, mean, square, step, powers=(0, 0))


def _both_at_999(gradient, mean, square, step):
    corrected = _mended(gradient, mean, square, step, powers=(0, 1))
    return corrected / (1 - 0.999**step)


def _all_at_nine(gradient, mean, square, step):
    return _mended(gradient, mean, square, step, kept=0.9)


def _one_step_on(gradient, mean, square, step):
    return _mended(gradient, mean, square, step, count=1)


def _root_lost(gradient, mean, square, step):
    scale = (0.999 * square + 0.001 * gradient**2) / (1 - 0.999**step)
    return (0.9 * mean + 0.1 * gradient) / (1 - 0.9**step) / scale


def _times_step(gradient, mean, square, step):
    square = (0.999 * square + 0.001 * gradient**2) / (1 - 0.999 * step)
    return (0.9 * mean + 0.1 * gradient) / (1 - 0.9**step) / square.sqrt()


def _not_to_the_power(gradient, mean, square, step):
    return _mended(gradient, mean, square, step, powers=(1, 0)) * (1 - 0.999) ** 0.5


def _at_99(gradient, mean, square, step):
    return _mended(gradient, mean, square, step, powers=(1, 0)) * (1 - 0.99**step) ** 0.5


def _with_the_sign(gradient, mean, square, step):
    return -_mended(gradient, mean, square, step)


def _with_the_rate(gradient, mean, square, step):
    return 1e-3 * _mended(gradient, mean, square, step)


EXERCISE = FindTheFault(
    id="4.3",
    title="Adam's first steps",
    oracle=_right,
    cases=_cases,
    faulty=_faulty,
    line=4,
    mend="    square = square / (1 - 0.999**step)",
    sound={
        1: "a running mean of gradients: 0.9 of it stays, and the new gradient is a tenth.",
        2: "a running mean of their squares, slower than that of gradients: 0.999 of it stays.",
        3: "after so many steps the gradients' weights in it sum to 1 - 0.9**step.",
        5: "the step is the mean, over the root of the mean square: 1 long for gradients that never change.",
    },
    mistakes=[
        (_faulty, "nothing has changed: the first step is still ten times too long."),
        (_not_corrected, "the mean square is not divided at all; by step t its weights sum to 1 - 0.999**t."),
        (_neither_corrected, "neither mean is divided; line 3 was right, and line 4 needs its own sum."),
        (_both_at_999, "line 3 was changed, too: it was right, gradients keep 0.9."),
        (_all_at_nine, "line 2 was changed: the mean square keeps 0.999, and line 4 has to say so."),
        (_one_step_on, "this counts a step too many: the first one has step = 1."),
        (_root_lost, "the root of line 5 is gone; it was right."),
        (_times_step, "0.999 is multiplied by the step; it is raised to it."),
        (_not_to_the_power, "1 - 0.999 is right for the first step alone; 0.999 is raised to the step."),
        (_at_99, "this takes 0.99; the mean square keeps 0.999."),
        (_with_the_sign, "the sign has changed; the optimizer subtracts the step, line 5 only makes it."),
        (_with_the_rate, "the step is multiplied by a learning rate, for which nobody asked here."),
    ],
)
