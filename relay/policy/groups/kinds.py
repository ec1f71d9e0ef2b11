"""The kinds of NIP-29."""

from typing import Final

PUT_USER: Final = 9000
REMOVE_USER: Final = 9001
EDIT_METADATA: Final = 9002
DELETE_EVENT: Final = 9005
CREATE_GROUP: Final = 9007
DELETE_GROUP: Final = 9008
CREATE_INVITE: Final = 9009
UPDATE_PIN_LIST: Final = 9010
JOIN_REQUEST: Final = 9021
LEAVE_REQUEST: Final = 9022

METADATA: Final = 39000
ADMINS: Final = 39001
MEMBERS: Final = 39002
ROLES: Final = 39003
LIVE_PARTICIPANTS: Final = 39004
PINS: Final = 39005

MODERATION: Final = frozenset(range(9000, 9021))
"""What admins ask for; most of these kinds have no meaning yet."""
REQUESTS: Final = MODERATION | {JOIN_REQUEST, LEAVE_REQUEST}
"""Everything that is asked of the relay."""
DOCUMENTS: Final = frozenset(range(METADATA, PINS + 1))
"""What only the relay may say about a group."""
