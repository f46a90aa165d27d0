"""A Python index behind TLS with a certificate of a company's CA, directly or behind a proxy that intercepts TLS."""

from __future__ import annotations

import ipaddress
import ssl
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOST = "index.example"
"""A host that only the proxy knows."""


def certificates(folder):
    """Write ca.pem, and server.pem with key and certificate for 127.0.0.1 and `HOST`. Returns the folder."""
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
    names = x509.SubjectAlternativeName([x509.DNSName(HOST), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    leaf = make(
        HOST, server, issuer, authority, (names, False), (x509.BasicConstraints(False, None), True),
        (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), False),
    )  # fmt: skip
    (folder / "ca.pem").write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.pem").write_bytes(server.private_bytes(*form) + leaf.public_bytes(serialization.Encoding.PEM))
    return folder


class Index:
    """Answers every path with `status` and `page`; `asked` lists the paths that arrived through TLS."""

    def __init__(self, folder, *, tls=True):
        self.asked: list[str] = []
        self.status, self.page = 404, b""
        self.proxy_status = 200
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem")
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                index.asked.append(self.path)
                self.send_response(index.status)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(index.page)))
                self.end_headers()
                self.wfile.write(index.page)

            def do_CONNECT(self):
                self.send_response(index.proxy_status)
                self.end_headers()
                if index.proxy_status == 200:
                    inner = context.wrap_socket(self.connection, server_side=True)
                    type("Inner", (Handler,), {})(inner, self.client_address, self.server)

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_):
                """A client that does not trust the certificate ends the connection."""

        self.server = Server(("127.0.0.1", 0), Handler)
        if tls:
            self.server.socket = context.wrap_socket(
                self.server.socket, server_side=True, do_handshake_on_connect=False
            )

    @property
    def port(self):
        return self.server.server_port


@contextmanager
def serving(folder, *, tls=True):
    """Serve an index with TLS; tls=False: a proxy that intercepts TLS, and an index without TLS."""
    index = Index(folder, tls=tls)
    thread = threading.Thread(target=index.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield index
    finally:
        index.server.shutdown()
        index.server.server_close()
        thread.join()
