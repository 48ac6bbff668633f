"""The page of failure stories has a row with a message for each story; the messages themselves come from a cluster."""

from __future__ import annotations

import pytest

from failure_stories import PAGE, Story, page, steady, stories, told
from support import Golden

FEWEST = 20


def test_the_page_shows_every_story_and_no_other(golden: Golden) -> None:
    titles = [story.title for story in stories()]
    assert len(set(titles)) == len(titles) >= FEWEST
    assert list(told()) == titles
    golden.check_file(PAGE, page(told()))


@pytest.mark.parametrize("story", stories(), ids=lambda story: story.namespace)
def test_the_message_on_the_page_has_the_numbers_and_the_field(story: Story) -> None:
    message = told()[story.title]
    assert [text for text in (*story.numbers, story.hint) if steady(text) not in message] == []


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        pytest.param("pod llama-6bd9f8c4d7-x2z5k: failed", "pod llama-POD: failed", id="pod"),
        pytest.param('ReplicaSet "llama-6bd9f8c4d7" has', 'ReplicaSet "llama-HASH" has', id="replica-set"),
        pytest.param("0/6 nodes are available: 2 Insufficient nvidia.com/gpu, 4 node(s) didn't match; x",
                     "0/N nodes are available: (counts); x", id="nodes"),
        pytest.param("largest free block is 7 (gpu-h200-1)", "largest free block is 7 (gpu-h200-1)", id="numbers-stay"),
        pytest.param("claim llama-models", "claim llama-models", id="names-stay"),
    ],
)  # fmt: skip
def test_what_differs_from_run_to_run_is_replaced(message: str, expected: str) -> None:
    assert steady(message) == expected
