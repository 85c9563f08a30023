"""Secure aggregation, simulated in one process: a server learns the sum of vectors and nothing else.

After Bonawitz et al. 2017, Practical Secure Aggregation for Privacy-Preserving Machine Learning, CCS (the protocol
against honest-but-curious parties): every pair of clients agrees on a seed, from which both expand the same mask, added
by one and subtracted by the other; each client adds a mask of its own. Keys and seeds are shared among all, so
that the masks of clients who drop out can be taken off again. Nothing is sent anywhere: shares, which travel encrypted
between clients there, are handed over here. Made for auditing what a sum gives away, not for protecting one.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt64

from seepage.core.errors import ConfigError, DataError

Array = np.ndarray
Share = tuple[int, int]

# Shares are points of polynomials over the integers modulo this Mersenne prime: secrets have 256 bits.
FIELD = 2**521 - 1
SECRET_BITS = 256
# Group 14 of RFC 3526, in which 2 generates a subgroup of prime order.
GROUP = int(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD"
    "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
    "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F"
    "83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B"
    "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510"
    "15728E5A8AACAA68FFFFFFFFFFFFFFFF",
    16,
)


@dataclass(frozen=True)
class FixedPoint:
    """Real numbers as integers modulo 2^64: sums are exact and wrap around.

    Attributes:
        fraction: bits behind the point; a number is off by 2^-(fraction + 1) at the most.
    """

    fraction: int = 32

    @property
    def step(self) -> float:
        return 2.0**-self.fraction

    def encode(self, vector: Float[Array, " d"], parties: int) -> UInt64[Array, " d"]:
        """The nearest fixed-point numbers.

        Raises:
            DataError: when the sum of so many such vectors may not fit.
        """
        most = 2.0 ** (63 - self.fraction) / parties
        if not np.isfinite(vector).all() or np.abs(vector).max(initial=0.0) >= most:
            raise DataError(f"finite values below {most:g} were wanted for a sum over {parties} clients: clip updates")
        return np.rint(vector * 2.0**self.fraction).astype(np.int64).view(np.uint64)

    def decode(self, total: UInt64[Array, " d"]) -> Float[Array, " d"]:
        return total.view(np.int64).astype(np.float64) * self.step


def mask(seed: bytes, size: int) -> UInt64[Array, " d"]:
    """The mask that a seed expands to: uniform over the ring, by SHAKE-256."""
    return np.frombuffer(hashlib.shake_256(seed).digest(8 * size), dtype="<u8").astype(np.uint64)


def shared(secret: int, parties: int, threshold: int, rng: np.random.Generator) -> list[Share]:
    """Shamir's shares of a secret, one a party: any `threshold` of them give it back, fewer say nothing of it."""
    # More bits than the field has, so that the remainder is uniform to within 2^-119.
    rest = [_drawn(rng, 640) % FIELD for _ in range(threshold - 1)]

    def at(x: int) -> int:
        value = 0
        for coefficient in reversed([secret, *rest]):
            value = (value * x + coefficient) % FIELD
        return value

    return [(x, at(x)) for x in range(1, parties + 1)]


def recovered(shares: Iterable[Share]) -> int:
    """The secret behind shares, by interpolation at zero; nonsense from fewer shares than the threshold."""
    points = list(shares)
    total = 0
    for x, y in points:
        above = math.prod((-other) % FIELD for other, _ in points if other != x)
        below = math.prod((x - other) % FIELD for other, _ in points if other != x)
        total = (total + y * above * pow(below, -1, FIELD)) % FIELD
    return total


def agreed(secret: int, public: int) -> bytes:
    """The seed that two clients share (Diffie and Hellman): one's secret key and the other's public one."""
    return hashlib.sha256(pow(public, secret, GROUP).to_bytes(256, "big")).digest()


class Client:
    """One client of a round: its keys, and the shares of others' secrets that it keeps.

    Args:
        number: of the client, from 0.
        rng: draws its keys.
    """

    def __init__(self, number: int, rng: np.random.Generator):
        self.number = number
        self._secret, self._own = _drawn(rng, SECRET_BITS), _drawn(rng, SECRET_BITS)
        self._rng = rng
        self._kept: dict[int, tuple[Share, Share]] = {}
        self.public = pow(2, self._secret, GROUP)

    def share_out(self, parties: int, threshold: int) -> list[tuple[Share, Share]]:
        """Shares of its secret key and of its own seed, one pair a client."""
        return list(
            zip(
                shared(self._secret, parties, threshold, self._rng),
                shared(self._own, parties, threshold, self._rng),
                strict=True,
            )
        )

    def keep(self, owner: int, shares: tuple[Share, Share]) -> None:
        """Takes the shares of another's key and seed."""
        self._kept[owner] = shares

    def seed_with(self, public: int) -> bytes:
        """The seed agreed with another client."""
        return agreed(self._secret, public)

    def upload(self, vector: UInt64[Array, " d"], pairs: Mapping[int, Array]) -> UInt64[Array, " d"]:
        """Its vector under its own mask and those it shares: added towards later clients, subtracted from earlier.

        Args:
            vector: (d,) numbers of the ring.
            pairs: the mask shared with each other client.
        """
        sent = vector + mask(own_seed(self._own), len(vector))
        for other, shared_mask in pairs.items():
            sent = sent + shared_mask if other > self.number else sent - shared_mask
        return sent

    def reveal(self, survivors: frozenset[int], dropped: frozenset[int]) -> dict[int, Share]:
        """Its shares of the survivors' own seeds and of the keys of those who dropped out.

        Raises:
            DataError: when both of one client are asked for: its vector would lie open.
        """
        if both := survivors & dropped:
            raise DataError(f"client {min(both)} cannot both have answered and dropped out: no share is revealed")
        seeds = {owner: self._kept[owner][1] for owner in survivors}
        return seeds | {owner: self._kept[owner][0] for owner in dropped}


def own_seed(secret: int) -> bytes:
    """The seed of a client's own mask."""
    return secret.to_bytes(66, "big")


@dataclass(frozen=True)
class Aggregate:
    """What a round leaves the server.

    Attributes:
        total: (d,) the sum of the survivors' vectors, each rounded to the ring's step.
        uploads: what each survivor sent.
        sent_bytes: what a client sent in all: vector, key and shares.
    """

    total: Float[Array, " d"]
    uploads: Mapping[int, Array]
    sent_bytes: int


def aggregate(
    vectors: Float[Array, " k d"],
    threshold: int,
    rng: np.random.Generator,
    dropped: frozenset[int] = frozenset(),
    ring: FixedPoint | None = None,
) -> Aggregate:
    """One round: keys, shares, masked vectors, and the masks taken off the sum.

    Args:
        vectors: (clients, values) what each would send.
        threshold: how many must answer; as many shares give a secret back.
        rng: draws keys and shares.
        dropped: clients who stop after having shared their keys: their vectors are in no sum.
        ring: the numbers that are added.

    Raises:
        ConfigError: when the threshold cannot be had, or fewer than that answer: the server learns nothing then.
    """
    (n, size), ring = vectors.shape, ring or FixedPoint()
    if not 1 <= threshold <= n:
        raise ConfigError(f"a threshold from 1 to the {n} clients was wanted, got {threshold}")
    survivors = frozenset(range(n)) - dropped
    if len(survivors) < threshold:
        raise ConfigError(
            f"{len(survivors)} of {n} clients answer and {threshold} are needed: the round stops and nothing is "
            "learned; fewer dropouts or a lower threshold"
        )
    clients = [Client(number, own) for number, own in enumerate(rng.spawn(n))]
    for client in clients:
        for other, shares in zip(clients, client.share_out(n, threshold), strict=True):
            other.keep(client.number, shares)
    uploads = _uploads(clients, [ring.encode(v, n) for v in vectors], survivors)
    total = np.zeros(size, dtype=np.uint64)
    for sent in uploads.values():
        total = total + sent
    answers = [clients[number].reveal(survivors, dropped) for number in sorted(survivors)[:threshold]]
    for owner in range(n):
        secret = recovered(answer[owner] for answer in answers)
        if owner in survivors:
            total = total - mask(own_seed(secret), size)
            continue
        for number in survivors:
            left = mask(agreed(secret, clients[number].public), size)
            total = total - left if owner > number else total + left
    return Aggregate(ring.decode(total), uploads, 8 * size + 256 + 2 * 66 * (n - 1) + 66 * n)


def _uploads(clients: Sequence[Client], vectors: Sequence[Array], survivors: frozenset[int]) -> dict[int, Array]:
    """What each survivor sends. A pair's mask is expanded once, though both ends would do so."""
    size = len(vectors[0])
    pairs: dict[int, dict[int, Array]] = {client.number: {} for client in clients}
    for client in clients:
        for other in clients[client.number + 1 :]:
            if {client.number, other.number} & survivors:
                both = mask(client.seed_with(other.public), size)
                pairs[client.number][other.number] = pairs[other.number][client.number] = both
    return {n: clients[n].upload(vectors[n], pairs[n]) for n in sorted(survivors)}


def _drawn(rng: np.random.Generator, bits: int) -> int:
    return int.from_bytes(rng.bytes(bits // 8), "big")
