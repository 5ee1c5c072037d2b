"""By what a server's certificate is known, as bytes: in homes, in invites and in files of credentials. Stdlib only.

32 bytes    the SHA-256 of that very certificate, as of every keeper with a nats-server of its own
SYSTEM      an authority that the system trusts vouches for the server's name
more        so does one of these authorities: their certificates in DER, one after the other
nothing     there is no TLS
"""

from __future__ import annotations

import re

from motes.errors import BadInput

FINGERPRINT_BYTES = 32
SYSTEM = b"system"
MOST_BYTES = 8 * 2**10
"""An invite has to carry it."""
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def is_pinned(certificate: bytes) -> bool:
    """Whether it is known itself, and nobody needs to vouch for it; nor for what is not known."""
    return len(certificate) in (0, FINGERPRINT_BYTES)


def is_known(certificate: bytes) -> bool:
    """Whether this can be what a certificate is known by."""
    return len(certificate) == FINGERPRINT_BYTES or certificate == SYSTEM or 64 < len(certificate) <= MOST_BYTES


def authorities(pem: str) -> bytes:
    """The certificates of authorities in the text of a file. Raises BadInput."""
    import ssl  # Invites are read without it.

    try:
        found = b"".join(map(ssl.PEM_cert_to_DER_cert, _PEM.findall(pem)))
        ssl.create_default_context(cadata=found)
    except (ValueError, ssl.SSLError) as error:
        raise BadInput(f"that is no file of authorities' certificates, as PEM: {error}") from None
    if not is_known(found):
        raise BadInput(
            f"the file of authorities holds {len(found)} bytes of certificates; name the one that signed the server's"
            f" own, of at most {MOST_BYTES} bytes"
        )
    return found
