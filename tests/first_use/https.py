"""A Python index behind TLS with a certificate of a company's CA, directly or behind a proxy that intercepts TLS."""

from __future__ import annotations

import ipaddress
import ssl
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import mirror
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOST = "index.example"
"""A host that only the proxy knows."""


def certificates(folder):
    """Write ca.pem, and server.pem with key and certificate for localhost, 127.0.0.1 and `HOST`. Returns the folder."""
    now = datetime.now(UTC)

    def make(name, key, issuer, signer, *extensions):
        builder = x509.CertificateBuilder(
            issuer, x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key.public_key(),
            x509.random_serial_number(), now - timedelta(days=1), now + timedelta(days=1),
        )  # fmt: skip
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(signer, hashes.SHA256())

    authority, server = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Company CA")])
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    identifier = x509.SubjectKeyIdentifier.from_public_key(authority.public_key())
    ca = make(
        "Company CA", authority, issuer, authority, (x509.BasicConstraints(True, None), True), (usage, True),
        (identifier, False),
    )  # fmt: skip
    names = x509.SubjectAlternativeName(
        [x509.DNSName(HOST), x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    )
    leaf = make(
        HOST, server, issuer, authority, (names, False), (x509.BasicConstraints(False, None), True),
        (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), False),
    )  # fmt: skip
    (folder / "ca.pem").write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.pem").write_bytes(server.private_bytes(*form) + leaf.public_bytes(serialization.Encoding.PEM))
    return folder


@contextmanager
def serving(folder, *, tls=True):
    """Serve an empty index with TLS; tls=False: a proxy that intercepts TLS, and an index without TLS.

    folder: that of `certificates`. All paths have status 404.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    with mirror.running(folder, otherwise=mirror.status(404), **{"tls" if tls else "intercepts": context}) as index:
        yield index
