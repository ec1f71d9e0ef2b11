"""All chapters, in the order of their numbers."""

from typing import Final

from relay.check.conformance.nip01 import NIP_01
from relay.check.conformance.nip04 import NIP_04
from relay.check.conformance.nip05 import NIP_05
from relay.check.conformance.nip09 import NIP_09
from relay.check.conformance.nip11 import NIP_11
from relay.check.conformance.nip13 import NIP_13
from relay.check.conformance.nip29 import NIP_29
from relay.check.conformance.nip40 import NIP_40
from relay.check.conformance.nip42 import NIP_42
from relay.check.conformance.nip43 import NIP_43
from relay.check.conformance.nip45 import NIP_45
from relay.check.conformance.nip50 import NIP_50
from relay.check.conformance.nip59 import NIP_17, NIP_59
from relay.check.conformance.nip62 import NIP_62
from relay.check.conformance.nip67 import NIP_67
from relay.check.conformance.nip70 import NIP_70
from relay.check.conformance.nip77 import NIP_77
from relay.check.conformance.nip86 import NIP_86
from relay.check.conformance.nip98 import NIP_98
from relay.check.conformance.rules import Chapter

CHAPTERS: Final[tuple[Chapter, ...]] = (
    NIP_01,
    NIP_04,
    NIP_05,
    NIP_09,
    NIP_11,
    NIP_13,
    NIP_17,
    NIP_29,
    NIP_40,
    NIP_42,
    NIP_43,
    NIP_45,
    NIP_50,
    NIP_59,
    NIP_62,
    NIP_67,
    NIP_70,
    NIP_77,
    NIP_86,
    NIP_98,
)
