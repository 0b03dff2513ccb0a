"""A certificate for servers on this machine."""

import shutil
import ssl
import subprocess
from pathlib import Path

from tests.require import require


def make_certificate(directory: Path) -> Path:
    """Make a self-signed certificate for 127.0.0.1; return a file with it and its key."""
    require(shutil.which("openssl"), "openssl")
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
            ),
            *("-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"),
            *("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
            *("-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    both = directory / "site.pem"
    both.write_text(certificate.read_text() + key.read_text())
    return both


def contexts(certificate: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Make what a server with `certificate` and its clients need for TLS: their contexts."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate)
    return server, ssl.create_default_context(cafile=str(certificate))
