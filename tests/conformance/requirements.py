"""Which test shows which feature in which crossing of eras and over which transports.

The features are the rows of the protocol's table (2026-07-28 against the handshake revisions). ``test_requirements.py``
fails when a cell has neither a test nor a reason why there is nothing to show, or when a test is not there;
``docs/generate.py`` writes the page.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from tests.conformance.cells import CELLS, Cell

HERE: Final = "tests/conformance"
Where = Callable[[Cell], bool]


def everywhere(_cell: Cell) -> bool:
    """In every cell."""
    return True


def crossing(*names: str) -> Where:
    """In these crossings."""
    return lambda cell: cell.crossing in names


def handshake_downstream(cell: Cell) -> bool:
    """Where the client speaks the handshake era."""
    return cell.downstream == "L"


def modern_downstream(cell: Cell) -> bool:
    """Where the client speaks the modern era."""
    return cell.downstream == "M"


def modern_upstream(cell: Cell) -> bool:
    """Where the server speaks the modern era."""
    return cell.upstream == "M"


@dataclass(frozen=True)
class Proof:
    """A test that runs in cells."""

    file: str
    test: str
    variant: str = ""
    where: Where = everywhere

    def at(self, cell: Cell) -> str:
        """The id of the test in a cell."""
        variant = f"{self.variant}-" if self.variant else ""
        return f"{HERE}/{self.file}::{self.test}[{variant}{cell.id}]"


@dataclass(frozen=True)
class Nothing:
    """Cells in which there is nothing to show, and why."""

    why: str
    where: Where


@dataclass(frozen=True)
class Feature:
    """One row."""

    number: int
    title: str
    proofs: tuple[Proof, ...]
    nothing: tuple[Nothing, ...] = ()

    def at(self, cell: Cell) -> tuple[str, ...]:
        """The tests that show it in a cell."""
        return tuple(proof.at(cell) for proof in self.proofs if proof.where(cell))

    def reason(self, cell: Cell) -> str:
        """Why there is nothing to show in a cell; empty if there is something."""
        return next((one.why for one in self.nothing if one.where(cell)), "")


def same(*scripts: str) -> tuple[Proof, ...]:
    """The comparison with the fixture, for these scripts."""
    return tuple(Proof("test_same.py", "test_through_manifold_a_client_sees_the_same", script) for script in scripts)


def crossings(test: str, variant: str = "", where: Where = everywhere) -> Proof:
    """A test of what happens beside answers."""
    return Proof("test_crossings.py", test, variant, where)


def revisions(test: str, variant: str = "") -> Proof:
    """A test of older revisions."""
    return Proof("test_revisions.py", test, variant, lambda cell: cell.downstream == "L" and cell.link == "http")


INTRODUCES: Final = crossings("test_manifold_introduces_itself_with_what_it_can_serve")
SIGNED: Final = crossings("test_every_result_is_signed_in_the_modern_era_and_no_other")
TOLD: Final = crossings("test_an_upstream_is_told_exactly_what_the_client_declared")
OTHER_CLIENT: Final = crossings(
    "test_one_client_is_asked_while_another_takes_its_time", where=lambda cell: cell.door == "http"
)
OLDER: Final = tuple(
    revisions("test_an_older_revision_gets_what_it_knows_and_can_be_asked", version)
    for version in ("2024-11-05", "2025-03-26", "2025-06-18")
)

FEATURES: Final = (
    Feature(1, "era choice", (INTRODUCES,)),
    Feature(2, "sessions", (TOLD, OTHER_CLIENT)),
    Feature(3, "identity", (SIGNED, INTRODUCES)),
    Feature(
        4,
        "client capabilities",
        (TOLD, crossings("test_a_client_is_never_asked_what_it_cannot_answer"), *same("client_capabilities")),
    ),
    Feature(5, "server capabilities", (INTRODUCES,)),
    Feature(
        6,
        "lists and pagination",
        (
            *same("list_tools", "list_resources", "list_templates", "list_prompts", "list_with_an_invalid_cursor"),
            crossings("test_caching_hints_are_the_weakest_of_all_parts"),
        ),
    ),
    Feature(
        7,
        "tool definition",
        (
            *same("list_tools"),
            crossings("test_structured_output_that_is_no_object_survives", where=modern_upstream),
        ),
    ),
    Feature(8, "call result", same("call_every_kind_of_content", "call_rich_content", "call_that_fails")),
    Feature(9, "protocol errors", same("error_with_code_and_data", "error_unknown_names", "read_missing")),
    Feature(10, "x-mcp-header", same("param_header")),
    Feature(11, "elicitation by form", same("elicitation_form", "elicitation_schemas", "elicitation_declined")),
    Feature(
        12,
        "elicitation by URL",
        (*same("elicitation_url"), crossings("test_a_visited_page_is_reported_as_done")),
    ),
    Feature(13, "sampling", same("sampling_plain", "sampling_with_every_field")),
    Feature(14, "roots", (*same("roots"), crossings("test_changed_roots_are_told_upstream", where=crossing("L→L")))),
    Feature(
        15,
        "logging",
        same("logging", "logging_levels", "logging_without_a_level", "logging_with_a_wrong_level"),
    ),
    Feature(16, "progress", same("progress", "no_progress_unless_asked", "question_after_progress")),
    Feature(17, "cancellation", (crossings("test_a_cancelled_call_is_cancelled_upstream"),)),
    Feature(
        18,
        "resources/read",
        same("read_text_and_binary", "read_several_contents", "read_by_template", "read_unlisted", "read_missing"),
    ),
    Feature(19, "URIs inside results", same("call_rich_content", "prompts", "completion")),
    Feature(
        20,
        "subscribe and updated",
        (
            crossings("test_an_updated_resource_is_announced_to_who_subscribed"),
            crossings("test_a_listen_stream_is_acknowledged_with_what_can_be_honoured", where=modern_downstream),
        ),
    ),
    Feature(
        21,
        "list_changed",
        tuple(
            crossings("test_a_changed_list_is_announced_and_served", what) for what in ("tools", "prompts", "resources")
        ),
    ),
    Feature(22, "prompts/get", same("prompts", "question_of_a_prompt")),
    Feature(23, "completion", same("completion", "completion_of_nothing")),
    Feature(24, "ping", same("ping")),
    Feature(
        25,
        "requestState",
        tuple(
            crossings("test_a_tampered_state_is_refused", damage, modern_downstream)
            for damage in ("changed", "cut", "another request", "nonsense")
        )
        + tuple(
            Proof("test_same.py", "test_through_manifold_a_client_sees_the_same", "several_rounds", where)
            for where in (crossing("L→M"),)
        ),
        (Nothing("neither side has such a state", crossing("L→L")),),
    ),
    Feature(
        26,
        "tasks extension",
        tuple(
            Proof("test_tasks.py", test, where=crossing("M→M"))
            for test in (
                "test_a_task_is_followed_to_its_result_under_an_id_of_ours",
                "test_a_task_asks_is_answered_and_is_cancelled",
                "test_news_of_tasks_come_on_a_listen_stream",
                "test_an_unknown_task_is_refused",
            )
        ),
        (
            Nothing("extensions do not exist in the handshake era", handshake_downstream),
            Nothing("extensions do not exist in the handshake era", crossing("M→L")),
        ),
    ),
    Feature(
        27,
        "other extensions",
        (
            Proof(
                "test_tasks.py",
                "test_extensions_that_manifold_can_carry_are_offered",
                where=crossing("M→M"),
            ),
        ),
        (Nothing("extensions do not exist in the handshake era", lambda cell: cell.crossing != "M→M"),),
    ),
    Feature(28, "_meta", same("request_meta", "call_rich_content")),
    Feature(
        29,
        "older content types",
        OLDER,
        (
            Nothing("the modern era has one revision", modern_downstream),
            Nothing("shown over HTTP: the upstream's transport makes no difference", lambda cell: cell.link == "stdio"),
        ),
    ),
    Feature(
        30,
        "transports of the handshake era",
        (
            revisions("test_a_batch_is_answered_as_one"),
            revisions("test_a_batch_with_progress_is_answered_by_a_stream"),
            revisions("test_other_revisions_refuse_batches"),
            Proof(
                "test_resume.py",
                "test_a_broken_stream_is_resumed",
                "before the answer",
                lambda cell: cell.downstream == "L" and cell.door == "http",
            ),
        ),
        (
            Nothing("batches and resuming were taken out of the modern era", modern_downstream),
            Nothing("shown over HTTP: the upstream's transport makes no difference", lambda cell: cell.link == "stdio"),
        ),
    ),
    Feature(
        31,
        "questions over a pipe",
        (Proof("test_crossings.py", OTHER_CLIENT.test, "", lambda c: c.link == "stdio" and c.door == "http"),),
        (
            Nothing("every answer has a stream of its own", lambda cell: cell.link == "http"),
            Nothing("a pipe has one client", lambda cell: cell.door == "stdio"),
        ),
    ),
)


def gaps() -> Iterator[str]:
    """Every cell that has neither a test nor a reason."""
    for feature in FEATURES:
        for cell in CELLS:
            if not feature.at(cell) and not feature.reason(cell):
                yield f"{feature.number} {feature.title}: {cell.id}"


def named() -> frozenset[str]:
    """The ids of all tests that the table names."""
    return frozenset(test for feature in FEATURES for cell in CELLS for test in feature.at(cell))
