"""Exercise 4.5: debug this run."""

import math

import torch

from vitlab.checks.engine import Exercise

HEALTHY, NO_WARMUP, TOO_HIGH = "healthy", "no warm-up", "rate too high"
DECAYED, LARGE, THIN = "norms decayed", "patch too large", "heads too thin"


def _curve(generator, first, end, steps=100, spike=0.0, at=5):
    """A loss that starts at ln 10, falls from `first` to `end`, and may jump by `spike` at a step."""
    progress = torch.linspace(0, 1, steps)
    losses = end + (first - end) * torch.exp(-6 * progress)
    losses += spike * torch.exp(-((torch.arange(steps) - at) ** 2) / 8.0)
    return losses + 0.03 * torch.randn(steps, generator=generator)


def _sick_runs(generator):
    def run(norm_scale=1.0, tokens=17, head_width=24, first=2.3, end=0.8, **shape):
        return _curve(generator, first, end, **shape), norm_scale, tokens, head_width

    yield run()
    yield run(spike=2.5)
    yield run(spike=3.5, end=2.1)
    yield run(end=1.9)
    yield run(end=1.6)
    yield run(end=2.2, spike=2.0, at=60)
    yield run(norm_scale=0.1, end=2.2)
    yield run(norm_scale=0.4, end=0.9)
    yield run(tokens=2, end=0.7)
    yield run(head_width=1, end=0.8)
    yield run(head_width=2, end=0.9)
    yield run(tokens=50, head_width=32, norm_scale=1.05, steps=150)
    yield run(tokens=197, head_width=64, norm_scale=0.97, end=0.5)


def _told_apart(
    losses,
    norm_scale,
    tokens,
    head_width,
    start=3.0,
    early=10,
    high=1.1,
    width=8,
    fewest=3,
    scale=0.8,
):
    """The shapes first, then the norms, then the beginning of the curve, then its end."""
    values = losses.tolist()
    if tokens < fewest:
        return LARGE
    if head_width < width:
        return THIN
    if norm_scale < scale:
        return DECAYED
    if max(values[:early]) > start:
        return NO_WARMUP
    return TOO_HIGH if sum(values[-10:]) / 10 > high else HEALTHY


def _with_signs(answer, losses, norm_scale, tokens, head_width):
    """The fault that an answer names, under the two numbers that its curve is judged by."""
    early, late = losses[:10].max(), losses[-10:].mean()
    signs = f"fault (highest of the first ten losses {early:.2f}, mean of the last ten {late:.2f})"
    return {signs: answer(losses, norm_scale, tokens, head_width)}


def _diagnose(losses, norm_scale, tokens, head_width):
    return _told_apart(losses, norm_scale, tokens, head_width)


def _end_before_beginning(losses, norm_scale, tokens, head_width):
    told = _diagnose(losses, norm_scale, tokens, head_width)
    return TOO_HIGH if told == NO_WARMUP and losses[-10:].mean() > 1.1 else told


def _jump_anywhere(losses, norm_scale, tokens, head_width):
    return _told_apart(losses, norm_scale, tokens, head_width, early=len(losses))


def _jump_above_ln10(losses, norm_scale, tokens, head_width):
    return _told_apart(losses, norm_scale, tokens, head_width, start=2.2)


def _never_healthy(losses, norm_scale, tokens, head_width):
    return _told_apart(losses, norm_scale, tokens, head_width, high=0.0)


def _jump_not_asked(losses, norm_scale, tokens, head_width):
    return _told_apart(losses, norm_scale, tokens, head_width, start=math.inf)


def _end_not_asked(losses, norm_scale, tokens, head_width):
    return _told_apart(losses, norm_scale, tokens, head_width, high=math.inf)


def _norms_of_one_only(losses, norm_scale, tokens, head_width):
    return _told_apart(losses, norm_scale, tokens, head_width, scale=1.0)


def _norms_not_asked(losses, norm_scale, tokens, head_width):
    return _told_apart(losses, norm_scale, tokens, head_width, scale=0.0)


def _end_before_norms(losses, norm_scale, tokens, head_width):
    told = _diagnose(losses, norm_scale, tokens, head_width)
    return TOO_HIGH if told == DECAYED and losses[-10:].mean() > 1.1 else told


def _tokens_not_asked(losses, norm_scale, tokens, head_width):
    return _told_apart(losses, norm_scale, tokens, head_width, fewest=0)


def _any_other_number_of_tokens(losses, norm_scale, tokens, head_width):
    return LARGE if tokens != 17 else _diagnose(losses, norm_scale, tokens, head_width)


def _only_one_number(losses, norm_scale, tokens, head_width):
    return _told_apart(losses, norm_scale, tokens, head_width, width=2)


def _only_two_numbers(losses, norm_scale, tokens, head_width):
    return _told_apart(losses, norm_scale, tokens, 8 if head_width == 1 else head_width)


def _any_norms(losses, norm_scale, tokens, head_width):
    return _told_apart(losses, norm_scale, tokens, head_width, scale=1.5)


def _names_exchanged(losses, norm_scale, tokens, head_width):
    told = _diagnose(losses, norm_scale, tokens, head_width)
    return {NO_WARMUP: TOO_HIGH, TOO_HIGH: NO_WARMUP}.get(told, told)


def _never_sick(losses, norm_scale, tokens, head_width):
    return HEALTHY


def _heads_not_asked(losses, norm_scale, tokens, head_width):
    return _told_apart(losses, norm_scale, tokens, head_width, width=0)


def _heads_as_in_the_paper(losses, norm_scale, tokens, head_width):
    return _told_apart(losses, norm_scale, tokens, head_width, width=64)


EXERCISE = Exercise(
    "4.5",
    "debug this run",
    cases=_sick_runs,
    oracle=_diagnose,
    call=_with_signs,
    mistakes=[
        (
            _end_before_beginning,
            "a jump at the start may end high as well; ask for the jump before you look at the end.",
        ),
        (
            _jump_not_asked,
            "a jump is not seen; any of the first ten losses above 3 is one, however the run ends.",
        ),
        (
            _jump_anywhere,
            "the jump of a missing warm-up is in the first ten steps; this finds any jump.",
        ),
        (
            _jump_above_ln10,
            "every run starts near ln 10 = 2.3 and wobbles; a jump is well above it, at 3 or more.",
        ),
        (_never_healthy, "healthy runs are called sick; a last loss near 1 or below is a good one here."),
        (
            _end_not_asked,
            "a last loss of 1.6 or more passes for healthy; healthy runs end near 1 or below.",
        ),
        (_norms_of_one_only, "norms move a little in any training: 0.97 and 1.05 are healthy."),
        (
            _end_before_norms,
            "decayed norms end high as well; look at the norms before you blame the rate.",
        ),
        (
            _norms_not_asked,
            "decayed norms pass unseen; their scales start at 1 and stay near it: 0.4 is far off.",
        ),
        (_any_other_number_of_tokens, "50 or 197 tokens are no fault: only too few are."),
        (_only_one_number, "heads of 2 numbers pass unseen; they make poor keys, as those of 1 do."),
        (_only_two_numbers, "heads of 1 number pass unseen; they make poor keys, as those of 2 do."),
        (_any_norms, "healthy norms are called decayed; theirs start at 1 and stay near it."),
        (_names_exchanged, '"no warm-up" and "rate too high" have changed places.'),
        (_tokens_not_asked, "2 tokens pass unseen; they are one patch and the class token."),
        (_heads_not_asked, "thin heads pass unseen; 1 or 2 numbers make poor keys."),
        (
            _heads_as_in_the_paper,
            "64 is the paper's width of a head; the healthy runs here have 24 and 32.",
        ),
        (_never_sick, 'the answer is "healthy" whatever the signs are.'),
    ],
)
