"""What a rule is given: the relay, and everything that belongs to one test alone.

Keys, words and connections are fresh in every test, so that it can run beside others and against a
relay that holds anything. All connections are left when the test is over.
"""

import os
from collections.abc import Mapping
from typing import Any

import msgspec
import trio

from relay.check.address import Address
from relay.check.conformance.client import Client, Pace
from relay.check.conformance.signer import Signer
from relay.check.conformance.transcript import Transcript
from relay.check.conformance.verdicts import Inconclusive, NotTestable
from relay.check.conformance.web import Response, ask
from relay.check.dial import Dialer
from relay.check.errors import RelayUnreachable


class Subject(msgspec.Struct, frozen=True):
    """The relay under test, as far as it is known before the first test."""

    address: Address
    dialer: Dialer
    pace: Pace
    information: dict[str, Any]
    """The information document (NIP-11); empty where there is none."""
    has_information: bool
    has_names: bool
    """Whether it serves names (NIP-05)."""
    assumed: frozenset[int]
    """NIPs that are taken for advertised."""
    admin: Signer | None
    """Who may manage the relay, if the run was given that key."""

    @property
    def nips(self) -> frozenset[int]:
        """The NIPs that the relay advertises, with those that are assumed."""
        listed = self.information.get("supported_nips")
        found = listed if isinstance(listed, list) else []
        return self.assumed | {nip for nip in found if type(nip) is int}

    @property
    def limitation(self) -> dict[str, Any]:
        """The `limitation` part of the information document."""
        found = self.information.get("limitation")
        return found if isinstance(found, dict) else {}

    def limit(self, name: str) -> int | None:
        """Return a limit that is advertised as a number."""
        found = self.limitation.get(name)
        return found if type(found) is int else None


class Trial:
    """One test of one rule."""

    def __init__(self, subject: Subject, nursery: trio.Nursery) -> None:
        self.subject = subject
        self.pace = subject.pace
        self.url = subject.address.url
        self.transcript = Transcript()
        self._nursery = nursery
        self._connections = 0

    async def client(self, target: str | None = None, *, authenticates: bool = True) -> Client:
        """Connect; to another path of the same server if `target` is given.

        Where the relay asks everybody to authenticate before anything else, the client does, with
        a fresh key, unless the test wants to see how that is.
        """
        dialer = self.subject.dialer
        if target is not None:
            dialer = dialer.elsewhere(target)
        try:
            connection = await dialer.dial()
        except RelayUnreachable as error:
            raise Inconclusive(f"no connection: {error}") from error
        self._connections += 1
        client = Client(self._connections, self.url, connection, self.transcript, self.pace)
        self._nursery.start_soon(client.run)
        if authenticates and self.subject.limitation.get("auth_required") is True:
            await client.authenticate(self.signer())
        return client

    async def known_client(self, signer: Signer) -> Client:
        """Connect, and authenticate with this key."""
        client = await self.client(authenticates=False)
        await client.authenticate(signer)
        return client

    def signer(self) -> Signer:
        """Return a fresh key."""
        return Signer()

    def word(self) -> str:
        """Return a word that nobody has used before."""
        return "check" + os.urandom(10).hex()

    @property
    def admin(self) -> Signer:
        """Whoever may manage the relay; ends the test as not testable where the run has no key."""
        if self.subject.admin is None:
            raise NotTestable("this needs an administrator's key (--admin-key)")
        return self.subject.admin

    @property
    def relay_key(self) -> str:
        """The relay's own public key, of its information document."""
        found = self.subject.information.get("self")
        if not isinstance(found, str):
            raise NotTestable("the relay tells no key of its own (`self`, NIP-11)")
        return found

    def supports(self, nip: int) -> bool:
        """Tell whether the relay advertises another NIP, which a test builds upon."""
        return nip in self.subject.nips

    def needs(self, nip: int) -> None:
        """End the test as not testable unless another NIP is advertised."""
        if not self.supports(nip):
            raise NotTestable(f"the relay does not advertise NIP-{nip:02}, by which this is tested")

    async def ask(
        self,
        method: str,
        target: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Response:
        """Ask the relay's server by HTTP."""
        return await ask(
            self.subject.address,
            self.transcript,
            method,
            target,
            headers,
            body,
            timeout=self.pace.patience,
        )
