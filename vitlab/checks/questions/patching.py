"""What follows from the numbers of lesson 01's quiz."""


def derive(patch_size: int, photo_patch_size: int, attention_power: float) -> dict:
    """Patches of a garment and of larger ones; the photo's grid; how much longer twice the sides take."""
    N, columns, longer = (28 // patch_size) ** 2, 576 // photo_patch_size, 4**attention_power
    return dict(
        N=N,
        summed=5 * N,
        multiplied=6 * N,
        squared=36 * N,
        rows=384 // photo_patch_size,
        columns=columns,
        below=1 + columns,
        below_by_rows=1 + 384 // photo_patch_size,
        below_by_pixels=1 + photo_patch_size,
        longer=longer,
        twice_longer=longer**2,
    )
