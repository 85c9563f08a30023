"""Sums of encrypted vectors by the CKKS scheme of TenSEAL (the extra `[he]`), with what they cost."""

import time
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from jaxtyping import Float

from seepage.core.errors import ConfigError

Array = np.ndarray
DEGREE = 8192
# Half as many numbers as the polynomial has coefficients fit into one ciphertext.
SLOTS = DEGREE // 2
PRIMES = (60, 40, 60)
SCALE_BITS = 40


@dataclass(frozen=True)
class Cost:
    """What one aggregation cost.

    Attributes:
        plain_bytes: of one client's vector in single precision.
        cipher_bytes: of one client's ciphertexts.
        encrypt_seconds: one client's encryption.
        add_seconds: the server's additions, over all clients.
        decrypt_seconds: the key holder's decryption of the sum.
        error: the greatest difference of a sum's value from the true one.
    """

    plain_bytes: int
    cipher_bytes: int
    encrypt_seconds: float
    add_seconds: float
    decrypt_seconds: float
    error: float


def tenseal() -> Any:
    """The library.

    Raises:
        ConfigError: when it is not installed.
    """
    try:
        return import_module("tenseal")
    except ImportError as error:
        raise ConfigError("sums of encrypted updates need TenSEAL: pip install 'seepage[he]'") from error


def encrypted_sum(vectors: Float[Array, " k d"]) -> tuple[Float[Array, " d"], Cost]:
    """The sum of vectors that a server added as ciphertexts, decrypted by whoever holds the key.

    The server's half of the work is done with a context that has no secret key.

    Args:
        vectors: (clients, values) finite.

    Raises:
        ConfigError: without TenSEAL.
    """
    ts = tenseal()
    holder = ts.context(ts.SCHEME_TYPE.CKKS, poly_modulus_degree=DEGREE, coeff_mod_bit_sizes=list(PRIMES))
    holder.global_scale = 2.0**SCALE_BITS
    public = ts.context_from(holder.serialize(save_secret_key=False))
    size = len(vectors[0])
    total: list[Any] = []
    sent, encrypting, adding = 0, 0.0, 0.0
    for number, vector in enumerate(vectors):
        begun = time.perf_counter()
        own = [ts.ckks_vector(public, vector[first : first + SLOTS].tolist()) for first in range(0, size, SLOTS)]
        encrypting += time.perf_counter() - begun
        if number == 0:
            sent, total = sum(len(part.serialize()) for part in own), own
            continue
        begun = time.perf_counter()
        total = [one + other for one, other in zip(total, own, strict=True)]
        adding += time.perf_counter() - begun
    begun = time.perf_counter()
    opened = [part.decrypt(holder.secret_key()) for part in total]
    decrypting = time.perf_counter() - begun
    found = np.concatenate([np.asarray(part) for part in opened])[:size]
    error = float(np.abs(found - np.sum(vectors, axis=0)).max())
    return found, Cost(4 * size, sent, encrypting / len(vectors), adding, decrypting, error)
