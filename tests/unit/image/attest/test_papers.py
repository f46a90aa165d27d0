"""The attestations and the signature of an image, and the checks of `image.check`; the image is a small file."""

import json
import shutil
import subprocess

import pytest
from small_image import NAME, inputs_of, make
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from vault_cube.errors import VaultCubeError
from vault_cube.image import recipe, store
from vault_cube.image.attest import manifest as manifests
from vault_cube.image.attest import provenance, sbom, signature
from vault_cube.image.inspect import check
from vault_cube.image.locks.aptlock import Deb


def test_the_same_inputs_give_the_same_attestations(space, tmp_path):
    one, two = (make(space, tmp_path / name)[0].parent for name in ("one", "two"))
    names = sorted(file.name for file in one.iterdir())
    assert len(names) == 5
    assert {name: (one / name).read_bytes() for name in names} == {name: (two / name).read_bytes() for name in names}


def test_cyclonedx_lists_each_file_once_with_its_hash_and_environments(space, tmp_path):
    make(space, tmp_path / "dist")
    bom = json.loads((tmp_path / f"dist/{NAME}.cdx.json").read_text())
    components = {component["name"]: component for component in bom["components"]}
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.6")
    assert sorted(components) == ["bash", "debian", "numpy", "sudo"]
    assert components["bash"]["purl"] == "pkg:deb/debian/bash@5.2.15-2%2Bb7?arch=amd64&distro=debian-12"
    assert components["bash"]["hashes"] == [{"alg": "SHA-256", "content": "a" * 64}]
    assert [entry["value"] for entry in components["numpy"]["properties"]] == ["pytorch", "vllm"]
    assert bom["metadata"]["timestamp"] == "2023-11-14T22:13:20+00:00"
    depends = next(entry for entry in bom["dependencies"] if entry["ref"] == "image")["dependsOn"]
    assert len(depends) == 4


def test_a_package_of_another_archive_has_the_vendors_namespace():
    deb = Deb("runtime", "nvidia-container-toolkit", "1.17", "amd64", "-", "nvidia-container", 1, "a" * 64, "x.deb")
    security = Deb("base", "sudo", "1", "amd64", "noble-security", "ubuntu-security", 1, "b" * 64, "y.deb")
    assert [part.purl.partition("?")[0] for part in sbom.parts([deb, security], {}, "Ubuntu", "24.04")] == [
        "pkg:deb/nvidia-container/nvidia-container-toolkit@1.17",
        "pkg:deb/ubuntu/sudo@1",
    ]


def test_spdx_is_valid_and_lists_the_same_files(space, tmp_path):
    make(space, tmp_path / "dist")
    document = parse_file(str(tmp_path / f"dist/{NAME}.spdx.json"))
    assert validate_full_spdx_document(document) == []
    assert sorted(package.name for package in document.packages) == ["bash", "numpy", "sudo", NAME]
    numpy = next(package for package in document.packages if package.name == "numpy")
    assert numpy.checksums[0].value == "c" * 64
    assert numpy.external_references[0].locator.startswith("pkg:pypi/numpy@2.1.0")


def test_provenance_names_commit_locks_keys_and_builder(space, tmp_path):
    make(space, tmp_path / "dist")
    statement = json.loads((tmp_path / f"dist/{NAME}.provenance.json").read_text())
    head = subprocess.check_output(["git", "-C", space.checkout, "rev-parse", "HEAD"], text=True)
    definition = statement["predicate"]["buildDefinition"]
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    assert {subject["name"] for subject in statement["subject"]} == {f"{NAME}.raw", f"{NAME}.qcow2"}
    dependencies = {entry["name"]: entry for entry in definition["resolvedDependencies"]}
    assert dependencies["checkout"] == {
        "name": "checkout",
        "annotations": {"dirty": False},
        "digest": {"gitCommit": head.strip()},
    }
    lock = space.locks / "apt.lock"
    assert dependencies["locks/debian-12/apt.lock"]["digest"]["sha256"] == store.sha256_of(lock)
    assert set(dependencies) == {
        "checkout", "locks/tools.lock", "locks/debian-12/apt.lock",
        *(f"locks/debian-12/python-{name}.lock" for name in ("salt", "pytorch", "tensorflow", "vllm")),
    }  # fmt: skip
    assert definition["internalParameters"]["keys"]["base"] == "b" * 64
    assert statement["predicate"]["runDetails"]["builder"]["id"]
    assert str(tmp_path) not in json.dumps(statement)


def test_a_changed_checkout_is_dirty_and_its_changed_files_are_listed(space):
    inputs = inputs_of(space)
    (space.checkout / "locks/tools.lock").write_text("changed")
    (space.checkout / "new file").touch()
    statement = provenance.statement(space, inputs, {}, {})
    checkout = statement["predicate"]["buildDefinition"]["resolvedDependencies"][0]
    assert checkout["annotations"] == {"dirty": True, "changed": ["locks/tools.lock", "new file"]}


def test_without_git_the_commit_comes_from_the_bundle_or_is_unknown(space):
    shutil.rmtree(space.checkout / ".git")
    assert provenance.source(space.checkout) == {"commit": None, "changed": []}
    (space.checkout / "carried").mkdir()
    (space.checkout / provenance.CARRIED).write_text('{"commit": "abc", "changed": ["x"]}')
    assert provenance.source(space.checkout) == {"commit": "abc", "changed": ["x"]}


def test_a_good_image_passes(space, tmp_path, key):
    image, sums = make(space, tmp_path / "dist")
    assert check.check(image)[1] == "signature: none"
    signature.sign(sums, key("maintainer"))
    checksum, signed, origin = check.check(image, tmp_path / "maintainer.pub")
    assert checksum.startswith("checksum: ")
    assert image.name in checksum
    assert signed.startswith("signature: maintainer with ED25519 key SHA256:")
    assert origin.startswith("provenance: debian-12 1.0.0, commit ")
    assert "uncommitted" not in origin
    assert "present, not verified" in check.check(image)[1]


@pytest.mark.parametrize("names", ["release@example.org", "release@example.org,old@example.org"])
def test_an_allowed_signers_file_is_accepted_as_well(space, tmp_path, key, names):
    image, sums = make(space, tmp_path / "dist")
    signature.sign(sums, key("maintainer"))
    public = (tmp_path / "maintainer.pub").read_text()
    (tmp_path / "signers").write_text(f"{names} {public}")
    assert "release@example.org" in check.check(image, tmp_path / "signers")[1]


@pytest.mark.parametrize("name", ["qcow2", "cdx.json", "spdx.json", "provenance.json"])
def test_a_file_with_a_flipped_bit_is_reported(space, tmp_path, name):
    image, _ = make(space, tmp_path / "dist")
    victim = image.with_name(f"{NAME}.{name}")
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    with pytest.raises(VaultCubeError, match=rf"(?m)^{NAME}\.{name}: differs from {NAME}.SHA256SUMS: "):
        check.check(image)


def test_a_wrong_key_does_not_pass(space, tmp_path, key):
    image, sums = make(space, tmp_path / "dist")
    signature.sign(sums, key("somebody"))
    key("maintainer")
    with pytest.raises(VaultCubeError, match=r"SHA256SUMS.sig: not made with a key in .*maintainer.pub$"):
        check.check(image, tmp_path / "maintainer.pub")


def test_a_missing_signature_does_not_pass_if_signers_are_given(space, tmp_path, key):
    image, _ = make(space, tmp_path / "dist")
    key("maintainer")
    with pytest.raises(VaultCubeError, match=r"SHA256SUMS.sig: missing, so .*SHA256SUMS is not signed$"):
        check.check(image, tmp_path / "maintainer.pub")


def test_checksums_changed_after_signing_do_not_pass(space, tmp_path, key):
    image, sums = make(space, tmp_path / "dist")
    signature.sign(sums, key("maintainer"))
    image.write_bytes(b"evil")
    lines = [line for line in sums.read_text().splitlines() if not line.endswith(image.name)]
    sums.write_text("\n".join([*lines, f"{store.sha256_of(image)}  {image.name}"]) + "\n")
    with pytest.raises(VaultCubeError) as error:
        check.check(image, tmp_path / "maintainer.pub")
    assert "SHA256SUMS.sig: not a signature of this" in str(error.value)
    assert "provenance.json: for another image" in str(error.value)


def test_a_signature_for_another_purpose_does_not_pass(space, tmp_path, key):
    image, sums = make(space, tmp_path / "dist")
    subprocess.run(["ssh-keygen", "-Y", "sign", "-n", "file", "-f", key("maintainer"), sums], check=True)
    with pytest.raises(VaultCubeError, match=r"\.sig: "):
        check.check(image, tmp_path / "maintainer.pub")


def test_provenance_of_another_image_does_not_pass(space, tmp_path):
    image, sums = make(space, tmp_path / "dist")
    statement = image.with_name(f"{NAME}.provenance.json")
    said = json.loads(statement.read_text())
    said["subject"][1]["digest"]["sha256"] = "e" * 64
    statement.write_text(json.dumps(said))
    sums.write_text(f"{store.sha256_of(image)}  {image.name}\n{store.sha256_of(statement)}  {statement.name}\n")
    with pytest.raises(VaultCubeError, match=rf"provenance.json: for another image: it does not list {image.name}"):
        check.check(image)


@pytest.mark.parametrize(("broken", "says"), [
    ("{", "not a provenance statement of this project"),
    ("[]", "not a provenance statement of this project"),
    ('{"_type": "x", "predicateType": "y"}', "not an in-toto statement"),
    (None, "missing, so the origin of the image is unknown"),
])  # fmt: skip
def test_a_malformed_provenance_is_an_error_of_one_line(space, tmp_path, broken, says):
    image, sums = make(space, tmp_path / "dist")
    statement = image.with_name(f"{NAME}.provenance.json")
    statement.unlink()
    if broken is not None:
        statement.write_text(broken)
    sums.write_text(f"{store.sha256_of(image)}  {image.name}\n")
    with pytest.raises(VaultCubeError, match=says) as said:
        check.check(image)
    assert "\n" not in str(said.value)


@pytest.mark.parametrize(("change", "says"), [
    (lambda image, sums: image.unlink(), "no such file"),
    (lambda image, sums: sums.unlink(), "no SHA256SUMS in its folder lists it"),
    (lambda image, sums: sums.write_text("nonsense\n"), "line 1: not a checksum"),
])  # fmt: skip
def test_missing_and_malformed_files_are_errors(space, tmp_path, change, says):
    image, sums = make(space, tmp_path / "dist")
    change(image, sums)
    with pytest.raises(VaultCubeError, match=says):
        check.check(image)


def test_keys_that_cannot_sign_are_errors(space, tmp_path, key):
    _, sums = make(space, tmp_path / "dist")
    with pytest.raises(VaultCubeError, match="nowhere: no such file"):
        signature.sign(sums, tmp_path / "nowhere")
    (tmp_path / "noise").write_text("noise")
    with pytest.raises(VaultCubeError, match=r"noise: ssh-keygen cannot sign with this key: "):
        signature.sign(sums, tmp_path / "noise")
    assert not signature.of(sums).exists()
    private = key("maintainer")
    signature.sign(sums, private)
    with pytest.raises(VaultCubeError, match=r"this is a private key: name its public half"):
        signature.verify(sums, private)


def test_publishing_lists_the_attestations_in_the_checksums_and_removes_an_older_signature(space, tmp_path, key):
    folder, dist = tmp_path / "image", space.checkout / "dist"
    image, sums = make(space, folder)
    manifest = {"name": NAME, "files": {name: {"sha256": digest} for name, digest in check.read(sums).items()}}
    sums.unlink()
    manifests.write(folder, manifest)
    dist.mkdir()
    (dist / f"{NAME}.SHA256SUMS").write_text("older\n")
    signature.sign(dist / f"{NAME}.SHA256SUMS", key("maintainer"))
    recipe.publish(space, folder, manifest)
    names = {file.name for file in dist.iterdir()}
    assert names == {f"{NAME}.{end}" for end in (
        "qcow2", "cdx.json", "spdx.json", "provenance.json", "SHA256SUMS", "manifest.json",
    )}  # fmt: skip
    assert check.check(dist / image.name)[0].count(NAME) == 5
    assert set(check.read(dist / f"{NAME}.SHA256SUMS")) == names - {f"{NAME}.SHA256SUMS", f"{NAME}.manifest.json"}


def test_a_bundle_has_checksums_and_a_signature_and_no_provenance(tmp_path, key):
    bundle = tmp_path / f"{NAME}.bundle.tar"
    bundle.write_bytes(b"bundle")
    sums = tmp_path / f"{NAME}.bundle.SHA256SUMS"
    sums.write_text(f"{store.sha256_of(bundle)}  {bundle.name}\n")
    signature.sign(sums, key("maintainer"))
    assert len(check.check(bundle, tmp_path / "maintainer.pub")) == 2
    bundle.write_bytes(b"bundlf")
    with pytest.raises(VaultCubeError, match=r"bundle.tar: differs from .*bundle.SHA256SUMS: "):
        check.check(bundle, tmp_path / "maintainer.pub")
