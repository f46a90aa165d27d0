"""The process runner: what it returns, logs and prints, and how a failed command is reported."""

import subprocess
import sys

import pytest

from vault_cube import errors, process
from vault_cube.errors import VaultCubeError


def test_the_output_is_captured():
    ran = process.run(["sh", "-c", "echo out; echo err >&2"])
    assert ran == process.Result(0, "out\n", "err\n")


@pytest.mark.parametrize("given", ["text", b"text"])
def test_input_is_written_to_stdin(given):
    assert process.run(["cat"], input=given).stdout == "text"


def test_a_command_without_input_reads_nothing():
    assert process.run(["cat"]).stdout == ""


def test_environment_and_folder_are_passed(tmp_path):
    ran = process.run(["/bin/sh", "-c", "echo $NAME; pwd"], env={"NAME": "value"}, cwd=tmp_path)
    assert ran.stdout == f"value\n{tmp_path}\n"


def test_a_failed_command_names_purpose_program_and_last_line():
    with pytest.raises(process.CommandFailed) as failed:
        process.run(["sh", "-c", "echo first >&2; echo last >&2; echo >&2; exit 3"], purpose="locks/apt.lock")
    assert str(failed.value) == "locks/apt.lock: sh failed with status 3: last"
    assert failed.value.returncode == 3


def test_a_failed_command_without_output_says_so():
    with pytest.raises(process.CommandFailed, match=r"^false failed with status 1: no error message$"):
        process.run(["/bin/false"])


@pytest.mark.parametrize("ok", [(0, 3), None])
def test_an_accepted_status_is_returned(ok):
    assert process.run(["sh", "-c", "exit 3"], ok=ok).returncode == 3


def test_a_missing_program_is_reported():
    with pytest.raises(process.Missing, match=r"^scan: no-such-program is not installed: install it$") as failed:
        process.run(["/nowhere/no-such-program"], purpose="scan", ok=None)
    assert failed.value.returncode is None
    assert isinstance(failed.value.__cause__, FileNotFoundError)


def test_a_program_that_cannot_be_executed_is_reported(tmp_path):
    (tmp_path / "program").write_text("")
    with pytest.raises(process.CommandFailed, match=r"^program cannot run: Permission denied$"):
        process.run([tmp_path / "program"])


def test_a_missing_folder_is_not_reported_as_a_missing_program(tmp_path):
    with pytest.raises(process.CommandFailed, match=r"^true cannot run: .*/nowhere: No such file") as failed:
        process.run(["true"], cwd=tmp_path / "nowhere")
    assert not isinstance(failed.value, process.Missing)


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["sh", "-c", "echo out; exit 4"], (4, "out\n", "")),
        (["/nowhere/program"], (127, "", "/nowhere/program: not installed")),
        (["sleep", "600"], (124, "", "sleep: no answer within 0 s")),
    ],
)
def test_a_check_gets_an_answer_from_every_command(words, answer):
    assert process.command(words, 0 if words[0] == "sleep" else 60) == answer


def test_a_command_that_takes_too_long_is_killed():
    with pytest.raises(process.TimedOut, match="sleep did not finish within 0 s") as failed:
        process.run(["sleep", "600"], timeout_s=0.01)
    assert isinstance(failed.value.__cause__, subprocess.TimeoutExpired)


def test_command_line_and_output_are_appended_to_the_log(tmp_path):
    log = tmp_path / "logs/step.log"
    process.run(["echo", "first word", "second"], log=log)
    ran = process.run(["sh", "-c", "echo warning >&2"], log=log)
    assert log.read_text() == "+ echo 'first word' second\nfirst word second\n+ sh -c 'echo warning >&2'\nwarning\n"
    assert (ran.stdout, ran.stderr) == ("", "")


def test_the_error_of_a_logged_command_has_the_end_of_the_log(tmp_path):
    log = tmp_path / "step.log"
    with pytest.raises(process.CommandFailed) as failed:
        process.run(["sh", "-c", "echo no space; exit 1"], log=log, purpose="disk")
    assert str(failed.value).startswith(f"disk: sh failed with status 1; the end of {log}:\n+ sh -c")
    assert str(failed.value).endswith("\nno space")


def test_names_that_are_not_utf_8_can_be_restored():
    ran = process.run(["printf", r"\351"], errors="surrogateescape")
    assert ran.stdout.encode(errors="surrogateescape") == b"\xe9"
    assert process.run(["printf", r"\351"]).stdout == "�"


@pytest.mark.parametrize(("value", "printed"), [("1", "+ echo hello\n"), ("0", ""), ("", ""), (None, "")])
def test_the_debug_variable_prints_commands(monkeypatch, capsys, value, printed):
    monkeypatch.delenv("VAULT_CUBE_DEBUG", raising=False)
    if value is not None:
        monkeypatch.setenv("VAULT_CUBE_DEBUG", value)
    process.run(["echo", "hello"])
    assert capsys.readouterr().err == printed


def test_started_commands_are_printed_too(monkeypatch, capsys):
    monkeypatch.setenv("VAULT_CUBE_DEBUG", "1")
    assert process.start(["true"]).wait() == 0
    assert capsys.readouterr().err == "+ true\n"


@pytest.mark.parametrize("word", ["https://user:secret@host/simple", "--index-url=https://secret@host/simple"])
def test_no_password_of_a_url_is_printed_or_logged(monkeypatch, capsys, tmp_path, word):
    monkeypatch.setenv("VAULT_CUBE_DEBUG", "1")
    process.run(["true", word], log=tmp_path / "log")
    for text in (capsys.readouterr().err, (tmp_path / "log").read_text()):
        assert "secret" not in text
        assert "@host/simple" in text


def test_causes_are_shown_only_when_debugging(monkeypatch):
    try:
        process.run(["/nowhere/program"])
    except process.Missing as err:
        failure = err
    monkeypatch.setenv("VAULT_CUBE_DEBUG", "")
    assert errors.shown(failure) == "program is not installed: install it"
    monkeypatch.setenv("VAULT_CUBE_DEBUG", "1")
    assert errors.shown(failure).startswith("program is not installed: install it\n")
    assert "FileNotFoundError" in errors.shown(failure)


def test_the_runner_imports_nothing_heavy():
    heavy = "print(sorted({name.partition('.')[0] for name in sys.modules} & {'rich', 'pydantic', 'yaml', 'requests'}))"
    program = f"import sys, vault_cube.process; {heavy}"
    assert process.run([sys.executable, "-c", program]).stdout == "[]\n"


def test_a_required_program_that_is_missing_is_named_with_its_package():
    process.required("sh", "dash")
    with pytest.raises(VaultCubeError, match=r"^no-such-program is missing: install its-package$"):
        process.required("no-such-program", "its-package")
