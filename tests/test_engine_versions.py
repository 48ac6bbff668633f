from __future__ import annotations

import pytest

from engine_page import engine_page
from support import ROOT, Golden
from trtllm_operator.engine_versions import Version, data, find_release, launcher_environment, release_names

KINDS = {"int", "float", "str", "str*", "switch"}
CONFIG_KINDS = {"any", "bool", "bool?", "int", "int?", "list?", "map", "map?", "number", "number?", "str", "str?"}


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        pytest.param("1.0.0", "1.0", id="oldest"),
        pytest.param("1.1.0rc5", "1.1", id="candidate-of-1.1"),
        pytest.param("1.2.1", "1.2", id="last-general-availability"),
        pytest.param("v1.2.0", "1.2", id="v-prefix"),
        pytest.param("1.3.0rc4", "1.3.0rc0", id="last-of-a-range"),
        pytest.param("1.3.0rc5", "1.3.0rc5", id="first-of-a-range"),
        pytest.param("1.3.0rc9", "1.3.0rc5", id="rc9-sorts-before-rc10"),
        pytest.param("1.3.0rc10", "1.3.0rc10", id="rc10-sorts-after-rc9"),
        pytest.param("1.3.0rc24", "1.3.0rc18", id="default"),
        pytest.param("1.3.0rc22.post1", "1.3.0rc18", id="post-release"),
        pytest.param("1.3.0rc26.post1", "1.3.0rc18", id="post-release-of-the-last"),
        pytest.param("1.3.0rc24-custom", "1.3.0rc18", id="suffix"),
        pytest.param("1.3.0rc24@sha256:00", "1.3.0rc18", id="with-digest"),
        pytest.param("1.3.0rc27", "1.3.0rc27", id="open-mpi-5"),
        pytest.param("1.4.0rc1", "1.4.0rc0", id="newest"),
    ],
)
def test_a_known_tag_has_its_release_and_no_warning(tag: str, name: str) -> None:
    release = find_release(tag)
    assert (release.name, release.warnings) == (name, ())


@pytest.mark.parametrize(
    ("tag", "name", "told"),
    [
        pytest.param(
            "latest", "1.3.0rc18", "does not name a TensorRT-LLM version; it is taken for 1.3.0rc24", id="latest"
        ),
        pytest.param("sha256:0123", "1.3.0rc18", "taken for 1.3.0rc24", id="digest"),
        pytest.param("", "1.3.0rc18", "taken for 1.3.0rc24", id="empty"),
        pytest.param("1.2", "1.3.0rc18", "taken for 1.3.0rc24", id="two-numbers"),
        pytest.param("0.20.0", "1.0", "older than 1.0.0", id="too-old"),
        pytest.param("1.2.2", "1.2", "taken for 1.2.1, the newest known that is not newer", id="unknown-patch"),
        pytest.param("1.3.0", "1.3.0rc27", "taken for 1.3.0rc29", id="release-after-its-candidates"),
        pytest.param("2.0.0", "1.4.0rc0", "taken for 1.4.0rc1", id="future"),
    ],
)
def test_an_unknown_tag_is_taken_for_a_known_one_with_a_warning(tag: str, name: str, told: str) -> None:
    release = find_release(tag)
    assert release.name == name
    (warning,) = release.warnings
    assert told in warning


def test_versions_sort_as_releases_do() -> None:
    tags = ["1.2.1", "1.3.0rc2", "1.3.0rc10", "1.3.0rc22", "1.3.0rc22.post1", "1.3.0", "1.4.0rc0"]
    versions = [Version.parse(tag) for tag in tags]
    assert versions == sorted(version for version in versions if version is not None)


@pytest.mark.parametrize(
    ("tag", "waiting", "utilization", "first_token"),
    [
        pytest.param("1.0.0", None, None, None, id="1.0"),
        pytest.param("1.1.0", None, None, "time_to_first_token_seconds", id="1.1"),
        pytest.param("1.2.1", None, None, "trtllm_time_to_first_token_seconds", id="1.2"),
        pytest.param(
            "1.3.0rc5", None, "trtllm_kv_cache_utilization", "trtllm_time_to_first_token_seconds", id="1.3-early"
        ),
        pytest.param(
            "1.3.0rc24",
            "trtllm_num_requests_waiting",
            "trtllm_kv_cache_utilization",
            "trtllm_time_to_first_token_seconds",
            id="1.3-late",
        ),
    ],
)
def test_metric_names_follow_the_release(
    tag: str, waiting: str | None, utilization: str | None, first_token: str | None
) -> None:
    release = find_release(tag)
    names = ("num_requests_waiting", "kv_cache_utilization", "time_to_first_token_seconds")
    assert tuple(release.metric(name) for name in names) == (waiting, utilization, first_token)


def test_the_last_general_availability_says_what_it_lacks() -> None:
    told = " ".join(find_release("1.2.1").lacks)
    for missing in ("queue gauges", "KV cache gauges", "--served_model_name", "honest /health"):
        assert missing in told
    assert find_release("1.3.0rc24").lacks == ()


@pytest.mark.parametrize(
    ("tag", "marked"), [pytest.param("1.2.1", False, id="certain"), pytest.param("1.3.0rc8", True, id="inferred")]
)
def test_what_is_not_verified_is_marked_where_users_read_it(tag: str, marked: bool) -> None:
    (health,) = [lack for lack in find_release(tag).lacks if "honest /health" in lack]
    assert health.endswith("(unverified)") is marked


@pytest.mark.parametrize(
    ("tag", "faulty"),
    [pytest.param("1.3.0rc26", False, id="rc26"), pytest.param("1.3.0rc27", True, id="rc27")],
)
def test_the_spawn_as_root_fails_since_open_mpi_5(tag: str, faulty: bool) -> None:
    release = find_release(tag)
    assert release.spawns_ranks_as_root is not faulty
    assert any("run as root" in fault for fault in release.faults) is faulty
    assert release.open_mpi == (5 if faulty else 4)


def test_mpirun_is_told_in_both_spellings() -> None:
    names = {name for name, _ in launcher_environment()}
    assert {"OMPI_MCA_orte_keep_fqdn_hostnames", "PRTE_MCA_prte_keep_fqdn_hostnames"} <= names


def test_ranges_are_in_order_and_do_not_overlap() -> None:
    edges = [Version.parse(row[end]) for row in data()["releases"] for end in ("first", "last")]
    assert edges == sorted(edge for edge in edges if edge is not None)


def test_every_fact_names_a_source_that_exists_and_every_source_is_used() -> None:
    rows = [change for release in data()["releases"] for change in release["changes"]]
    rows += [fact for release in data()["releases"] for fact in release.get("facts", {}).values()]
    rows += [*data()["faults"], *data()["launcher_environment"]]
    assert {type(row["verified"]) for row in rows} == {bool}
    assert {row["source"] for row in [*rows, *data()["lacks"]]} == set(data()["sources"])


@pytest.mark.parametrize("name", release_names())
def test_every_type_is_one_the_readers_know(name: str) -> None:
    release = find_release(next(row["first"] for row in data()["releases"] if row["name"] == name))
    assert {kind for kind in release.flags.values() if "|" not in kind} <= KINDS
    tables = [release.config, *release.sections.values()]
    assert {kind for table in tables for kind in table.values()} <= CONFIG_KINDS
    assert set(release.sections) <= set(release.config)
    assert {need for metric in release.metrics for need in metric.needs} <= set(release.config)


def test_the_page_for_users_is_written_from_the_data(golden: Golden) -> None:
    golden.check_file(ROOT / "docs" / "engine-versions.md", engine_page())
