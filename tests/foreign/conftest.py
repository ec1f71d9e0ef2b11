"""What foreign clients saw at the open relay: played once, for all tests that ask."""

import pytest

from tests.foreign.open_relay import CAST, CONFIG, PROPERTIES
from tests.foreign.playing import Performance, play
from tests.served import served_relay


@pytest.fixture(scope="session")
def at_open_relay(tmp_path_factory: pytest.TempPathFactory) -> Performance:
    with served_relay(tmp_path_factory.mktemp("open"), config=CONFIG) as relay:
        return play(relay.url, CAST, PROPERTIES)
