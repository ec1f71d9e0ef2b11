"""Relay-based groups (NIP-29): pure rules. What peers ask becomes rulings, drafts and refusals.

    peer's event → office.Groups.rule → moderation | membership → drafts (of `documents`)
                   office.Groups.check → timeline
    the relay's own events → office.Groups.note → state.Directory
    a reader's REQ, a live event → reading.GroupReading

A group's state is in the relay's own events (`documents`), and nowhere else: metadata (39000),
admins (39001), members (39002), pins (39005), and a private record that holds the invite codes.
Each of these is the whole of what it tells, so what is in memory depends on the current versions
alone and not on the order in which they were noted: after a restart it is what it was before.
"""
