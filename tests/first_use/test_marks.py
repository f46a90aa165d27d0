"""Every code block of the documentation has a mark that says which test runs it."""

import re
import subprocess

import pytest
import shell
from blocks import MARKS, TOP, WITHOUT_MARK, all_blocks, marked, of_text, pages, problems


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(TOP)))
def test_every_block_has_a_mark(page):
    assert problems(str(page.relative_to(TOP)), page.read_text()) == []


@pytest.mark.parametrize(("text", "message"), [
    ("```console\n$ true\n```\n", "page.md:1: a block without a mark: write <!-- runs: MARK --> before it: quick, "),
    ("```\n$ true\n```\n", "page.md:1: a block without a mark"),
    ("- a\n\n  ```sh\n  true\n  ```\n", "page.md:3: a block without a mark"),
    ("<!-- runs: often -->\n```console\n$ true\n```\n", "page.md:2: no such mark: often: use one of quick, "),
    ("<!-- runs: quick -->\n\n```console\n$ true\n```\n", "page.md:3: a block without a mark"),
    ("<!-- runs: box -->\n```console\ntrue\n```\n", "page.md:2: no command in it: begin each with `# ` (root) or `$ `"),
    ("text\n\n    true\n", "page.md:3: a block without a fence: put it between ```console and ```"),
    ("<!-- runs: quick -->\n```console\n$ true\n```\n\n    # true\n", "page.md:6: a block without a fence"),
    (f"<!-- runs: quick -->\n```console\n$ {'x' * 101}\n```\n", "page.md:2: a line of more than 102 characters"),
    ("* a\n\n    $ true\n", "page.md:3: a block without a fence"),
])  # fmt: skip
def test_a_block_without_a_good_mark_is_one_line(text, message):
    (line,) = problems("page.md", text)
    assert line.startswith(message)


@pytest.mark.parametrize("language", sorted(WITHOUT_MARK))
def test_content_of_files_and_pictures_need_no_mark(language):
    assert problems("page.md", f"```{language}\na: 1\n```\n") == []


def test_every_mark_is_used_by_a_test_or_says_that_none_runs_it():
    for mark, meaning in MARKS.items():
        file = re.search(r"\((tests/\S+)\)", meaning)
        if file:
            assert f'marked("{mark}"' in (TOP / file[1]).read_text()
        else:
            assert mark == "ci" or "no test runs it" in meaning or mark == "example"


def test_commands_with_their_comments_are_read_from_a_block():
    (block,) = of_text(
        "page.md",
        '1. a\n\n    ```console\n    # make a && \\\n        b    # as root\n    $ c "d"   # "x … z", exit code 2\n'
        "    printed\n    ```\n",
    )
    assert [(command.text, command.as_root, command.status) for command in block.commands] == [
        ("make a && b", True, 0),
        ('c "d"', False, 2),
    ]
    assert block.commands[1].printed == ["x … z"]
    assert re.search(shell.pattern_of("x … z NAME", {"NAME": "a.b"}), "x y z a.b")
    assert block.output == ["printed"]


@pytest.mark.parametrize(
    "block",
    [block for block in all_blocks() if block.language == "console"],
    ids=lambda block: f"{block.page}:{block.line}",
)
def test_every_command_is_valid_shell(block):
    for command in block.commands:
        text = re.sub(r"<[a-z ]+>|…", "NAME", command.text)
        ran = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True, check=False)
        assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize(("text", "error"), [
    ("$ false", "exit code 1, not 0: page.md:1: false"),
    ("$ false    # exit code 1", None),
    ("$ true     # exits with code 2", "exit code 0, not 2: page.md:1: true"),
    ('$ echo ab  # "a…c"', "does not print a…c: page.md:1: echo ab"),
    ('$ echo abc  # "a…c"', None),
    ("$ cd /tmp\n$ pwd\n/tmp", None),
    ("$ pwd\n/nowhere", "page.md:1: does not print /nowhere"),
    ("$ exit 3", "the shell ended early"),
    ("$ echo Traceback", "page.md:1: echo Traceback"),
])  # fmt: skip
def test_a_block_that_does_not_do_what_it_shows_fails(tmp_path, text, error):
    blocks = of_text("page.md", f"```console\n{text}\n```\n")
    if error is None:
        shell.run(blocks, shell.bash(tmp_path, {}))
    else:
        with pytest.raises(AssertionError, match=re.escape(error)):
            shell.run(blocks, shell.bash(tmp_path, {}))


def test_the_first_commands_are_the_same_on_all_pages():
    pages = ("README.md", "docs/tutorial.md", "docs/demo-box-setup-guide.md")
    first = [[command.text for command in marked("slow", page)[0].commands[:2]] for page in pages]
    assert first[0] == first[1] == first[2]


def test_commands_that_are_left_to_ci_are_in_its_script():
    commands = [command for block in marked("ci") for command in block.commands]
    assert commands
    assert [command.text for command in commands if not shell.of_ci(command)] == []
    assert {"image", "test", "lint", "verify"} <= shell.GOALS_OF_CI
