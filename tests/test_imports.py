"""Which rooms of the package import which, whether at the head of a module or inside a function."""

import ast
from pathlib import Path

import vitlab

PACKAGE = Path(vitlab.__file__).parent


def rooms_imported(source: str) -> set[str]:
    """The rooms, `vitlab.<room>`, that some source imports anywhere in it."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "vitlab":
            found += [where_from(alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found.append(node.module)
    return {name.split(".")[1] for name in found if name.startswith("vitlab.")}


def where_from(name: str) -> str:
    """The module that `from vitlab import name` takes it from."""
    if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file():
        return f"vitlab.{name}"
    return getattr(getattr(vitlab, name), "__module__", "")  # a plain value is of the package itself


def imports() -> dict[str, set[str]]:
    """Room -> the other rooms that its modules import."""
    found = {}
    for file in PACKAGE.rglob("*.py"):
        room = file.relative_to(PACKAGE).with_suffix("").parts[0]
        found.setdefault(room, set()).update(rooms_imported(file.read_text(encoding="utf-8")))
    return {room: others - {room} for room, others in found.items() if room != "__init__"}


def reached(start: str, edges: dict[str, set[str]]) -> set[str]:
    """All rooms that a room imports, directly or through others."""
    seen, waiting = set(), [start]
    while waiting:
        for room in edges.get(waiting.pop(), set()) - seen:
            seen.add(room)
            waiting.append(room)
    return seen


def test_fine_tuning_stands_on_training_and_not_the_other_way_round():
    edges = imports()
    assert "training" in edges["fine_tuning"]
    assert "fine_tuning" not in reached("training", edges)


def test_no_room_imports_itself_through_others():
    edges = imports()
    assert {room for room in edges if room in reached(room, edges)} == set()


def test_an_import_is_found_wherever_it_stands():
    assert rooms_imported("def f():\n    from vitlab.fine_tuning.probing import knn") == {"fine_tuning"}
    assert rooms_imported("if x:\n    import vitlab.training") == {"training"}
    assert rooms_imported("from vitlab import adapting, data, ViT") == {"adapting", "data", "vit"}
    assert rooms_imported("import torch, vitlab") == set()
    assert reached("a", {"a": {"b"}, "b": {"c"}, "c": {"a"}}) == {"a", "b", "c"}
