"""All chapters, in the order of their numbers."""

from typing import Final

from relay.check.conformance.nip01 import NIP_01
from relay.check.conformance.nip09 import NIP_09
from relay.check.conformance.nip40 import NIP_40
from relay.check.conformance.nip42 import NIP_42
from relay.check.conformance.nip67 import NIP_67
from relay.check.conformance.nip70 import NIP_70
from relay.check.conformance.rules import Chapter

CHAPTERS: Final[tuple[Chapter, ...]] = (NIP_01, NIP_09, NIP_40, NIP_42, NIP_67, NIP_70)
