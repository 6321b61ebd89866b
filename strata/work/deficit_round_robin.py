"""Give out turns by deficit round robin in bytes, one quantum a visit.

After Shreedhar and Varghese, "Efficient Fair Queuing using Deficit Round Robin" (1995), in the form in which
a quantum is served while there is any credit and may leave a debt (surplus round robin). Two things differ
from the textbook, both in favour of keys with little work:

- A visit serves *one* quantum and then goes on to the next key, until the round's credit is spent. So a new
  key waits for at most one quantum of each key that was there before, whatever the sizes of quanta, the
  weights and the lengths of queues.
- Debts are kept while other keys wait in the round: leaving and coming back does not cancel a debt.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Hashable
from typing import Generic, TypeVar

import attrs

K = TypeVar("K", bound=Hashable)

QUANTUM_BYTES = 8 * 1024 * 1024
"""Credit of one round at weight 1: a row group of 60,000 rows by ten columns, or two slices of a scan."""

_SPARE = 64
"""Stale entries allowed beyond the number of valid ones; with more, all stale entries are removed."""


@attrs.define(eq=False)
class _Account:
    """Credit of one key.

    Attributes:
        round: Round of the key's next turn.
        order: Place in that round.
        credit: Bytes left in that round; above zero.
        grant: Bytes added each round.
        waiting: Whether the key has work queued.
    """

    round: int
    order: int
    credit: int
    grant: int
    waiting: bool = True

    @property
    def position(self) -> float:
        """Bytes served so far per unit of weight, counted in rounds."""
        return (self.round - self.credit / self.grant) * QUANTUM_BYTES


class DeficitRoundRobin(Generic[K]):
    """Round of weighted keys.

    Every operation takes time logarithmic in the number of keys, whatever the keys have queued.
    """

    def __init__(self) -> None:
        self._accounts: dict[K, _Account] = {}
        self._heap: list[tuple[int, int, K]] = []
        self._orders = itertools.count()
        self._round = 0
        self._waiting = 0
        self._sweep_at = _SPARE

    def __len__(self) -> int:
        return self._waiting

    @property
    def spread(self) -> int:
        """Bytes between the waiting keys served least and most, at weight 1; linear in the keys."""
        positions = [account.position for account in self._accounts.values() if account.waiting]
        return round(max(positions) - min(positions)) if positions else 0

    def join(self, key: K, weight: float = 1.0) -> None:
        """Add ``key`` at the end of the round, or change the weight of a key that waits already.

        Raises:
            ValueError: If ``weight`` is not above zero.
        """
        if not weight > 0:
            raise ValueError(f"a weight is above zero, not {weight}")
        grant = max(1, round(QUANTUM_BYTES * weight))
        account = self._accounts.get(key)
        if account is None or (not account.waiting and account.round < self._round):
            account = self._accounts[key] = _Account(self._round, 0, grant, grant, waiting=False)
        account.grant = grant
        account.credit = min(account.credit, grant)
        if not account.waiting:
            account.waiting = True
            self._waiting += 1
            self._line_up(key, account)

    def leave(self, key: K) -> None:
        """Take out ``key``, which has no work queued any more; its debt is kept.

        Raises:
            KeyError: If ``key`` is unknown.
        """
        account = self._accounts[key]
        account.waiting = False
        self._waiting -= 1
        self._sweep()

    def next(self) -> K:
        """Return the key whose turn it is.

        Raises:
            IndexError: If no key waits.
        """
        while True:
            found, order, key = self._heap[0]
            account = self._accounts.get(key)
            if account is not None and account.waiting and account.order == order:
                self._round = found
                return key
            heapq.heappop(self._heap)

    def take(self, key: K, cost: int) -> None:
        """Charge ``cost`` bytes to ``key``, which :meth:`next` returned, for its turn."""
        account = self._accounts[key]
        account.credit -= cost
        self._settle(account)
        self._line_up(key, account)

    def charge(self, key: K, cost: int) -> None:
        """Charge ``cost`` further bytes to ``key`` for past turns; a negative cost gives bytes back.

        A key that still has credit keeps its place. An unknown key is ignored: its debt was cleared.
        """
        account = self._accounts.get(key)
        if account is None:
            return
        before = account.round
        account.credit -= cost
        self._settle(account)
        if account.round != before:
            self._line_up(key, account)

    def reset(self) -> None:
        """Clear all debts; no key may be waiting."""
        self._accounts.clear()
        self._heap.clear()

    def _settle(self, account: _Account) -> None:
        """Move the account to the first round in which it has credit."""
        if account.credit <= 0:
            rounds = -account.credit // account.grant + 1
        else:
            spare = (account.credit - 1) // account.grant
            rounds = -min(spare, max(0, account.round - self._round))
        account.round += rounds
        account.credit = min(account.credit + rounds * account.grant, account.grant)

    def _line_up(self, key: K, account: _Account) -> None:
        account.order = next(self._orders)
        if account.waiting:
            heapq.heappush(self._heap, (account.round, account.order, key))
            self._sweep()

    def _sweep(self) -> None:
        """Remove stale entries, in constant time on average."""
        if max(len(self._heap), len(self._accounts)) <= self._sweep_at:
            return
        self._accounts = {
            key: account
            for key, account in self._accounts.items()
            if account.waiting or account.round >= self._round
        }
        self._heap = [
            (account.round, account.order, key) for key, account in self._accounts.items() if account.waiting
        ]
        heapq.heapify(self._heap)
        self._sweep_at = 2 * len(self._accounts) + _SPARE
