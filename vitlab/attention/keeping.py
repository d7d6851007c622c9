"""Many pictures one after the other: what an earlier run kept stays, and a broken one stops no other."""

import warnings
from collections.abc import Callable, Mapping

from vitlab.data.folders import why_skipped
from vitlab.wording import counted, shortened

NAMED = 5  # of the pictures that cannot be read, in the words of a refusal


def kept_or_made(
    given: Mapping, find: Callable, read: Callable, make: Callable
) -> tuple[dict[str, object], dict[str, str]]:
    """Name -> what `find` kept, or `make` makes of what `read` reads; and name -> why of those skipped.

    `find(name, files)` gives what is kept, or None, and a digest of the files; `read(files)` what is in them
    and a remark; `make(name, *what is in them, digest)` the rest. An error of `make` is the model's, and goes
    its way. Raises ValueError where nothing is given, or nothing of it can be read.

    >>> kept_or_made({"a": 1}, lambda name, n: (None, "a1"), lambda n: (n, ""), lambda *made: made)
    ({'a': ('a', 1, 'a1')}, {})
    """
    from tqdm.auto import tqdm

    if not given:
        raise ValueError("no pictures are given; give files, such as JPEG or PNG, or folders of them")
    done, skipped = {}, {}
    for name, files in tqdm(given.items(), unit="picture", dynamic_ncols=True):
        try:
            kept, digest = find(name, files)
            if kept is None:
                *parts, remark = read(files)
        except Exception as error:  # for a damaged file nearly anything; none may stop the rest
            skipped[name] = why_skipped(error)
            continue
        if kept is None:
            if remark:
                warnings.warn(f"{name}: {remark}", stacklevel=3)
            kept = make(name, *parts, digest)
        done[name] = kept
    if not done:
        words = [f"{name} ({shortened(why, 120)})" for name, why in skipped.items()]
        more = [f"and {len(words) - NAMED} more"] if len(words) > NAMED else []
        raise ValueError(
            f"nothing can be read of {counted(len(words), 'file')}: {', '.join(words[:NAMED] + more)}. Give "
            "pictures, such as JPEG or PNG files, or folders of them"
        )
    return done, skipped
