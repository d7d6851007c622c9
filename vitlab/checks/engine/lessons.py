"""Which lessons there are, and their exercises: a package for each lesson, a module for each exercise."""

import importlib
import pkgutil

from vitlab.checks.engine.kinds import Exercise, OpenTask

LESSONS = {
    "1": "patching",
    "2": "embeddings",
    "3": "encoder",
    "4": "pretraining",
    "5": "fine_tuning",
    "6": "attention_analysis",
    "7": "your_images",
}


def exercises(number: str) -> list[Exercise | OpenTask]:
    """All exercises of one lesson in the order of their ids: `EXERCISE` of each module of its package.

    A module whose name begins with an underscore is what several of them share.
    """
    package = importlib.import_module(f"vitlab.checks.exercises.{name(number)}")
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    modules = [importlib.import_module(f"{package.__name__}.{it}") for it in names if not it.startswith("_")]
    return sorted((module.EXERCISE for module in modules), key=lambda it: int(it.id.partition(".")[2]))


def find(id: str) -> Exercise | OpenTask:
    """The exercise with this id; raises ValueError that names those there are."""
    return pick(id, exercises, "exercises")


def pick(id: str, of_lesson, kind: str):
    """The item `id` among those that `of_lesson` has for the number before its point."""
    if not isinstance(id, str):
        raise ValueError(f'an id is a text in quotes, such as "{"1.1" if id is None else id}"; got {id!r}')
    known = of_lesson(id.partition(".")[0]) if id.partition(".")[0] in LESSONS else []
    for item in known:
        if item.id == id:
            return item
    names = ", ".join(item.id for item in known) or "lessons " + ", ".join(LESSONS)
    raise ValueError(f"there is no {id!r} among the {kind}; there are {names}")


def name(number: str) -> str:
    """The name of a lesson's modules; raises ValueError for a lesson that there is not."""
    if number not in LESSONS:
        quotes = "" if isinstance(number, str) else ", a text in quotes"
        raise ValueError(f"there is no lesson {number!r}; there are {', '.join(LESSONS)}{quotes}")
    return LESSONS[number]
