"""Key pairs of NATS, as docs/protocol.md describes them. It needs the package cryptography."""

import base64
import binascii

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def key_pair(seed):
    """Returns the key of a seed (SU... of a user, SA... of an account) and its public key (U..., A...)."""
    raw = base64.b32decode(seed + "=" * (-len(seed) % 8))  # two bytes of prefixes, 32 of seed, two of checksum
    key = Ed25519PrivateKey.from_private_bytes(raw[2:34])
    prefix = (raw[0] & 7) << 5 | raw[1] >> 3
    body = bytes([prefix]) + key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    checksum = binascii.crc_hqx(body, 0).to_bytes(2, "little")
    return key, base64.b32encode(body + checksum).decode().rstrip("=")
