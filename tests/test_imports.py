"""Sound becomes text down a list of packages; each imports only from those above it."""

import ast
from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "whisfusion_jax"


def room(path: Path) -> str:
    """The package or the single module that a file belongs to."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports() -> dict[str, set[str]]:
    """Which rooms each room imports from, as the files say."""
    found = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{each.name}" for each in node.names)]
            elif isinstance(node, ast.Import):
                names = [each.name for each in node.names]
            for name in names:
                parts = name.split(".")
                if parts[0] == "tools":
                    found[room(path)].add("tools")
                elif parts[0] == PACKAGE.name and len(parts) > 1 and parts[1] != room(path):
                    found[room(path)].add(parts[1])
    return {
        name: {each for each in rooms if (PACKAGE / each).is_dir() or each == "tools"}
        | {each for each in rooms if (PACKAGE / f"{each}.py").is_file()}
        for name, rooms in found.items()
    }


def test_imports_run_one_way() -> None:
    order = list(TopologicalSorter(imports()).static_order())  # a circle raises
    for early, late in (("audio", "data"), ("models", "decoding"), ("data", "training")):
        assert order.index(early) < order.index(late)


def test_nothing_leans_on_tools_or_on_what_users_call() -> None:
    found = imports()
    assert not [name for name, rooms in found.items() if "tools" in rooms]
    for low in ("audio", "text", "models", "diffusion", "decoding", "parallel", "data", "training"):
        assert not found[low] & {"transcription", "evaluation", "cli"}, low


def test_models_know_nothing_of_decoding_and_decoding_nothing_of_files() -> None:
    found = imports()
    assert not found["models"] & {"decoding", "diffusion", "bundle", "data"}
    assert not found["decoding"] & {"audio", "bundle", "data"}
    assert not found["parallel"] & {"decoding", "training", "data", "bundle"}


def test_the_package_names_what_most_need() -> None:
    import whisfusion_jax

    assert set(whisfusion_jax.__all__) <= set(dir(whisfusion_jax))
    for name in whisfusion_jax.__all__:
        assert getattr(whisfusion_jax, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Transcribe'"):
        _ = whisfusion_jax.Transcribe
