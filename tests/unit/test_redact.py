"""No message, log or manifest contains a user name, password or token of an address."""

import pytest

from vault_cube.errors import VaultCubeError
from vault_cube.image import progress
from vault_cube.redact import redacted
from vault_cube.settings import PillarError, check

SECRET = "s3cret"


@pytest.mark.parametrize(("text", "shown"), [
    ("http://user:s3cret@127.0.0.1:80/x: status 403", "http://***@127.0.0.1:80/x: status 403"),
    ("https://s3cret@host/simple", "https://***@host/simple"),
    ("http://user:s3cret@with@signs@host/x", "http://***@host/x"),
    ("http://user:s3cret/with/slash@host/x", "http://***@host/x"),
    ("http://user:s3cret?mark@host/x", "http://***@host/x"),
    ("http://:s3cret@host", "http://***@host"),
    ("socks5h://user:s3cret@host:1080", "socks5h://***@host:1080"),
    ("HTTP://USER:s3cret@HOST/", "HTTP://***@HOST/"),
    ("'http://a:s3cret@b/c', http://d:s3cret@e/f", "'http://***@b/c', http://***@e/f"),
    ("user:s3cret@proxy:3128 is no address", "***@proxy:3128 is no address"),
    ("https://host/x?token=s3cret&part=s3cret: status 404", "https://host/x?token=***&part=***"),
    ("https://host/x?s3cret", "https://host/x?***"),
    ("https://host/x.deb?X-Amz-Signature=s3cret#part", "https://host/x.deb?X-Amz-Signature=***#part"),
])  # fmt: skip
def test_credentials_are_removed(text, shown):
    assert SECRET not in redacted(text)
    assert redacted(text).startswith(shown)


@pytest.mark.parametrize("text", [
    "http://host:8080/a@1.0.deb", "http://host/pool/@scope/x", "nvcr.io/nvidia/k8s/dcgm-exporter:4.4.1@sha256:abc",
    "git@github.com:a/b", "is it there? http://host/ ok?", "12:30:45 me@host",
    "pillar/local.sls: line 3: base:hostname: x", "file:/a/b ./", "http://host/x%40y", "unit@instance.service: failed",
])  # fmt: skip
def test_other_texts_stay_as_they_are(text):
    assert redacted(text) == text


def test_errors_progress_and_logs_are_redacted(tmp_path, capfd):
    address = f"http://user:{SECRET}@mirror.example.org/debian"
    assert SECRET not in str(VaultCubeError(f"{address}: no answer"))
    with pytest.raises(PillarError) as error:
        check({"image": {"mirrors": {"debian": address}}})
    assert SECRET not in str(error.value)
    assert "http://***@mirror.example.org" in str(error.value)
    log = tmp_path / "log"
    log.write_text(f"Err:1 {address}\n")
    assert progress.log_tail(log) == "Err:1 http://***@mirror.example.org/debian"
    console = progress.console
    with console.capture() as shown:
        progress.note(f"using {address} instead")
        with progress.step(f"fetch: {address}"):
            pass
    assert SECRET not in shown.get()
    assert shown.get().count("http://***@mirror.example.org/debian") == 3
    assert SECRET not in "".join(capfd.readouterr())
