"""What follows from the numbers of lesson 02's quiz."""


def derive(
    patch_size: int,
    class_accuracy: float,
    patch_accuracy: float,
    learned_gain: float,
    learned_spread: float,
    sincos_gain: float,
    sincos_spread: float,
) -> dict:
    """Sizes of the projection and the positions, and what the gains bear out (points, sd).

    The gains are judged as they are printed, to one digit: whoever reckons with those must get the same.
    """
    N, length, D = (28 // patch_size) ** 2, patch_size**2, 96
    learned, learned_sd, sincos, sincos_sd = (
        round(float(number), 1) for number in (learned_gain, learned_spread, sincos_gain, sincos_spread)
    )
    apart, twice = round(abs(sincos - learned), 1), round(2 * max(learned_sd, sincos_sd), 1)
    twice_learned, twice_sincos = round(2 * learned_sd, 1), round(2 * sincos_sd, 1)
    helps = learned > twice_learned and sincos > twice_sincos
    return dict(
        N=N,
        tokens=N + 1,
        tokens_at_twice=4 * N + 1,
        length=length,
        matrix=length * D,
        projection=(length + 1) * D,
        a_projection_each=N * (length + 1) * D,
        positions=(N + 1) * D,
        measured=f"{learned:+.1f} ± {learned_sd:.1f} and {sincos:+.1f} ± {sincos_sd:.1f} points",
        apart=apart,
        twice=twice,
        twice_learned=twice_learned,
        twice_sincos=twice_sincos,
        one_is_better=helps and apart > twice,
        both_help=helps and apart <= twice,
        not_both=not helps,
    )
