"""TLS to a keeper that is known by its certificate alone: no authority vouches for it, and no clock has to be right.

The keeper makes a certificate for itself, once. Whoever joins learns its SHA-256 from the invite, and from then on
takes no other: the handshake proves that the other side holds that certificate's key. A NATS that somebody else runs
is known by the authorities that vouch for its name instead (motes.model.certificate).
"""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import ssl
from functools import lru_cache
from pathlib import Path

from motes.errors import Untrusted
from motes.model.certificate import SYSTEM, is_pinned

SERVER_NAME = "motes"
"""For which the keeper's certificate is, whatever its address; clients of other makes are told to expect that name."""
VALID_YEARS = 100
"""Nobody looks at it; NATS wants one that is valid."""


def fingerprint(certificate: bytes) -> bytes:
    """SHA-256 of a certificate in DER."""
    return hashlib.sha256(certificate).digest()


def fingerprint_of(path: Path) -> bytes:
    """That of the certificate in a PEM file."""
    return fingerprint_of_text(path.read_text())


def fingerprint_of_text(text: str) -> bytes:
    """The same of its text. Raises ValueError."""
    return fingerprint(ssl.PEM_cert_to_DER_cert(text))


@lru_cache(maxsize=16)
def context(certificate: bytes = b"") -> ssl.SSLContext:
    """For a server that is known by `certificate`; where that is the very one, who connects checks it, with `check`.

    Raises ssl.SSLError for authorities that are none.
    """
    if not is_pinned(certificate):
        return ssl.create_default_context(cadata=None if certificate == SYSTEM else certificate)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    return made


def name_of(host: str, certificate: bytes) -> str | None:
    """For whom an authority has to vouch; nobody where the certificate is known itself."""
    return None if is_pinned(certificate) else host


def not_vouched_for(server: str, error: ssl.SSLCertVerificationError) -> Untrusted:
    return Untrusted(
        f"no authority that is known here vouches for {server}: {error.verify_message} (is this the name in its"
        " certificate? An authority of your own is named on the keeper: motes up --nats URL --nats-ca FILE)"
    )


def check(transport: asyncio.BaseTransport, expected: bytes) -> None:
    """Raises Untrusted unless the other side showed the certificate with this fingerprint.

    That an authority vouches for it the handshake has checked.
    """
    if not is_pinned(expected):
        return
    shown = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
    if not shown or fingerprint(shown) != expected:
        raise Untrusted(
            "another cluster answers there: its certificate is not the one that is known here"
            " (make a new invite, or key, where the keeper runs, or find out who listens at that address)"
        )


def make_certificate(common_name: str) -> tuple[str, str]:
    """A new key and a certificate that it signs itself, both as PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=366))
        .not_valid_after(now + datetime.timedelta(days=365 * VALID_YEARS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(common_name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return secret.decode(), made.public_bytes(serialization.Encoding.PEM).decode()
