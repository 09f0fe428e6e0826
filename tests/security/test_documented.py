"""``docs/security.md`` names tests that exist, and leaves none of the attacks out."""

import ast
import re
from pathlib import Path

from tests.support.manifold import ROOT

PAGE = ROOT / "docs" / "security.md"
NO_ATTACKS = {
    "test_the_tokens_of_the_issuer_are_good_here",
    "test_doors_still_serve_after_all_that",
    "test_the_http_door_serves_after_fuzzing_within_its_memory",
    "test_the_stdio_door_serves_after_fuzzing_within_its_memory",
    "test_manifold_serves_after_bad_frames_within_its_memory",
    "test_manifold_serves_after_bad_answers_within_its_memory",
}


def attacks_in(file: Path) -> set[str]:
    found = ast.walk(ast.parse(file.read_text()))
    functions = (one for one in found if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef))
    return {one.name for one in functions if one.name.startswith("test_")}


def ours() -> set[str]:
    files = [one for one in Path(__file__).parent.glob("test_*.py") if one.name != Path(__file__).name]
    return set().union(*map(attacks_in, files))


def test_every_test_that_the_threat_model_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE.read_text()))
    assert len(named) > 50
    assert named <= ours()


def test_every_attack_that_is_tested_is_in_the_threat_model() -> None:
    assert ours() - NO_ATTACKS - set(re.findall(r"`(test_\w+)`", PAGE.read_text())) == set()


def test_the_threat_model_is_found() -> None:
    assert "docs/security.md" in (ROOT / "SECURITY.md").read_text()
    assert "(security.md)" in (ROOT / "docs" / "index.md").read_text()
