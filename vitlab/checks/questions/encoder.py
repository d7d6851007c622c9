"""What follows from the numbers of lesson 03's quiz."""


def derive(
    tokens: int, num_heads: int, even_share: float, pre_norm_worst: float, post_norm_best: float
) -> dict:
    """How many rows and entries 8 images' weights have; whether the runs of both norms are apart."""
    B, apart = 8, pre_norm_worst < post_norm_best
    return dict(
        B=B,
        heads_in_all=B * num_heads,
        rows=B * num_heads * tokens,
        entries=B * num_heads * tokens**2,
        apart=apart,
        overlap=not apart,
        not_="" if apart else "not ",
        do="do not" if apart else "do",
    )
