"""Exercise 3.5, find the fault: heads that are joined in the wrong order."""

from vitlab.checks.engine import FindTheFault
from vitlab.checks.exercises.encoder.heads import _many_heads, _qkv_cases


def _faulty(qkv, num_heads):
    B, T, D = len(qkv), qkv.shape[1], qkv.shape[2] // 3
    q, k, v = qkv.view(B, T, 3, num_heads, D // num_heads).permute(2, 0, 3, 1, 4)
    weights = (q @ k.mT / (D // num_heads) ** 0.5).softmax(dim=-1)
    mixed = weights @ v
    return mixed.reshape(B, T, D)


def _apart(qkv, num_heads):
    """(B, T, 3D) -> the weights (B, heads, T, T) and the values (B, heads, T, d)."""
    B, T, D = len(qkv), qkv.shape[1], qkv.shape[2] // 3
    q, k, v = qkv.view(B, T, 3, num_heads, D // num_heads).permute(2, 0, 3, 1, 4)
    return (q @ k.mT / (D // num_heads) ** 0.5).softmax(dim=-1), v


def _still_in_runs(qkv, num_heads):
    weights, v = _apart(qkv, num_heads)
    return (weights @ v).reshape(len(qkv), qkv.shape[1], -1)


def _width_in_front(qkv, num_heads):
    weights, v = _apart(qkv, num_heads)
    return (weights @ v).permute(0, 2, 3, 1).flatten(2)


def _last_axes_turned(qkv, num_heads):
    weights, v = _apart(qkv, num_heads)
    return (weights @ v).mT.reshape(len(qkv), qkv.shape[1], -1)


def _width_and_tokens_turned(qkv, num_heads):
    weights, v = _apart(qkv, num_heads)
    return (weights @ v).transpose(1, 3).reshape(len(qkv), qkv.shape[1], -1)


def _not_joined(qkv, num_heads):
    weights, v = _apart(qkv, num_heads)
    return (weights @ v).transpose(1, 2)


def _tokens_joined(qkv, num_heads):
    weights, v = _apart(qkv, num_heads)
    return (weights @ v).flatten(1, 2)


def _averaged(qkv, num_heads):
    weights, v = _apart(qkv, num_heads)
    return (weights @ v).mean(dim=1)


def _weights_transposed(qkv, num_heads):
    weights, v = _apart(qkv, num_heads)
    return (weights.mT @ v).transpose(1, 2).flatten(2)


EXERCISE = FindTheFault(
    id="3.5",
    title="find the fault: the same bands in every garment",
    oracle=_many_heads,
    cases=_qkv_cases,
    mistakes=[
        (_still_in_runs, "the heads still stand in front of the tokens as the axes are joined."),
        (_width_in_front, "the heads are joined as (d heads); one head's d numbers stay neighbours."),
        (_last_axes_turned, "tokens and d are exchanged; it is heads and tokens that change places."),
        (_width_and_tokens_turned, "heads and d are exchanged; it is heads and tokens that change places."),
        (_not_joined, "heads and d are still two axes; join them to one of length D."),
        (_tokens_joined, "heads and tokens are joined to one axis; heads and d belong together."),
        (_averaged, "the heads are averaged; they are put side by side."),
        (_weights_transposed, "the weights are transposed; row i of them is query i's."),
    ],
    faulty=_faulty,
    line=5,
    mend="    return mixed.transpose(1, 2).reshape(B, T, D)",
    sound={
        1: "these are the sizes: qkv has 3D columns.",
        2: "columns are cut as (3, heads, d), and then the heads are moved in front of the tokens.",
        3: "a score is divided by √d, d being a head's width, and each row sums to 1.",
        4: "in each head, each row of weights mixes that head's values.",
    },
)
