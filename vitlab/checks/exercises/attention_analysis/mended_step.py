"""Exercise 6.3, find the fault: the published step of rollout."""

import torch

from vitlab.checks.engine import FindTheFault
from vitlab.checks.exercises.attention_analysis._shared import halved, rows_to_one, softmaxed


def _step_cases(generator):
    for batch, tokens in ((1, 6), (2, 5), (4, 4)):
        fused = softmaxed(generator, batch, tokens, tokens)
        smallest = fused.flatten(1).quantile(0.6, dim=1)[:, None, None]
        fused = torch.where(fused < smallest, 0.0, fused)
        fused[:, -1] = 0.0  # a row of which nothing is left
        yield (fused,)


def _step(fused):
    mended = torch.zeros_like(fused)
    for b in range(fused.shape[0]):
        for i in range(fused.shape[1]):
            total = sum(fused[b, i, j] / 2 + (i == j) / 2 for j in range(fused.shape[2]))
            for j in range(fused.shape[2]):
                mended[b, i, j] = (fused[b, i, j] / 2 + (i == j) / 2) / total
    return mended


def _step_published(fused):
    step = halved(fused)
    return step / step.sum(dim=-1)


def _step_published_and_again(fused):
    return rows_to_one(_step_published(fused))


def _step_sums_along_columns(fused):
    step = halved(fused)
    return step / step.sum(dim=-1)[:, None]


def _step_whole_identity(fused):
    return rows_to_one(fused / 2 + torch.eye(fused.shape[-1], dtype=fused.dtype))


def _step_sums_of_attention(fused):
    return halved(fused) / fused.sum(dim=-1, keepdim=True)


def _step_columns(fused):
    step = halved(fused)
    return step / step.sum(dim=-2, keepdim=True)


def _step_not_normalised(fused):
    return halved(fused)


def _step_without_residual(fused):
    return rows_to_one(fused)


def _step_normalised_first(fused):
    return halved(rows_to_one(fused))


def _step_whole_map(fused):
    step = halved(fused)
    return step / step.sum(dim=(-2, -1), keepdim=True)


def _step_whole_batch(fused):
    step = halved(fused)
    return step / step.sum()


def _step_whole_attention(fused):
    return rows_to_one(fused + torch.eye(fused.shape[-1], dtype=fused.dtype) / 2)


def _step_multiplied(fused):
    step = halved(fused)
    return step * step.sum(dim=-1, keepdim=True)


def _step_by_length(fused):
    step = halved(fused)
    return step / step.norm(dim=-1, keepdim=True)


def _step_by_mean(fused):
    step = halved(fused)
    return step / step.mean(dim=-1, keepdim=True)


def _step_by_largest(fused):
    step = halved(fused)
    return step / step.amax(dim=-1, keepdim=True)


def _step_softmax(fused):
    return halved(fused).softmax(dim=-1)


def _faulty(fused):
    identity = torch.eye(fused.shape[-1])
    mixing = (fused + identity) / 2
    return mixing / mixing.sum(dim=-1)


EXERCISE = FindTheFault(
    id="6.3",
    title="the published step of rollout",
    faulty=_faulty,
    line=3,
    mend="    return mixing / mixing.sum(dim=-1, keepdim=True)",
    sound={
        1: "the identity has as many rows as there are tokens; it serves every image.",
        2: "attention and residual count half each, as rollout has it.",
    },
    cases=_step_cases,
    oracle=_step,
    mistakes=[
        (
            _step_published,
            "without keepdim the sums line up with columns: entry (i, j) is divided by the sum of row j.",
        ),
        (
            _step_published_and_again,
            "the rows sum to 1 now, but columns were divided first: the proportions are wrong.",
        ),
        (
            _step_sums_along_columns,
            "entry (i, j) is divided by the sum of row j: a last axis lets row i meet its own sum.",
        ),
        (_step_whole_identity, "the residual counts whole here, attention half: it is ½A + ½I."),
        (
            _step_sums_of_attention,
            "the sums are those before the residual is added; take them after, of what is divided.",
        ),
        (_step_columns, "the columns are made to sum to 1; it is the rows that must."),
        (_step_not_normalised, "nothing is normalised; divide each row by its sum."),
        (_step_without_residual, "the residual connection is missing: ½A + ½I comes first."),
        (
            _step_normalised_first,
            "the rows are normalised before the residual is added; mix first, then normalise.",
        ),
        (_step_whole_attention, "attention counts whole here, the residual half: it is ½A + ½I."),
        (_step_multiplied, "each row is multiplied by its sum; divide by it."),
        (
            _step_by_length,
            "each row is divided by its length, the root of its squares; by its sum instead.",
        ),
        (_step_by_mean, "each row is divided by its mean; divide it by its sum."),
        (_step_by_largest, "each row is divided by its largest entry; divide it by its sum."),
        (_step_whole_map, "the whole map sums to 1; each of its rows must."),
        (_step_whole_batch, "all maps together sum to 1; each row of each must."),
        (_step_softmax, "a softmax changes the proportions; divide by the sum instead."),
    ],
)
