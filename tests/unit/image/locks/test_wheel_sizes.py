"""The size of a locked wheel: from the index, else from the file, else an error in one line with the remedy."""

import mirror as servers
import pytest

from vault_cube.errors import VaultCubeError
from vault_cube.image.locks import pylock


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "a b-1.0.whl").write_bytes(b"x" * 4321)
    with servers.running(tmp_path) as mirror:
        yield mirror


def test_a_size_from_the_index_needs_no_request(mirror, tmp_path):
    assert pylock._size({"url": f"{mirror.url}/a%20b-1.0.whl", "size": 5}, tmp_path) == 5
    assert not mirror.asked


def test_a_head_request_gives_the_size_of_a_remote_file(mirror, tmp_path):
    mirror.answers["a%20b-1.0.whl"] = [lambda handler, file, body=True: servers.send(handler, 200, length=4321)]
    assert pylock._size({"url": f"{mirror.url}/a%20b-1.0.whl"}, tmp_path) == 4321


@pytest.mark.parametrize(
    "file", [{"path": "a b-1.0.whl"}, {"path": "../{}/a b-1.0.whl"}, {"url": "file://{}/a%20b-1.0.whl"}]
)
def test_the_size_of_a_local_file_is_read(tmp_path, file):
    (tmp_path / "a b-1.0.whl").write_bytes(b"x" * 4321)
    places = {"path": tmp_path.name, "url": str(tmp_path)}
    assert pylock._size({key: value.format(places[key]) for key, value in file.items()}, tmp_path) == 4321


def unsized(handler, file, body=True):
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()


@pytest.mark.parametrize("answer", [servers.status(403), servers.status(404), servers.status(500), unsized])
def test_an_unknown_size_is_one_line_with_the_remedy(mirror, tmp_path, answer):
    mirror.answers["x.whl"] = [answer]
    with pytest.raises(VaultCubeError, match=r"/x\.whl: cannot determine its size \(.*archive:wheel_index$") as caught:
        pylock._size({"url": f"{mirror.url}/x.whl"}, tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_an_unreachable_server_is_one_line(tmp_path):
    with pytest.raises(VaultCubeError, match="cannot determine its size"):
        pylock._size({"url": "http://127.0.0.1:9/x.whl"}, tmp_path)
