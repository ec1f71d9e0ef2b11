// nostr-tools plays scenarios against a relay; see scene.mjs.

import './environment.mjs'
import { play } from './scene.mjs'
import { notes } from './nostr_tools/notes.mjs'
import { deletion, expiration, protection, vanishing } from './nostr_tools/removal.mjs'
import { authentication, messages, privacy } from './nostr_tools/privacy.mjs'
import { counting } from './nostr_tools/counting.mjs'
import { information } from './nostr_tools/information.mjs'
import { mining } from './nostr_tools/mining.mjs'

await play({
  notes, deletion, expiration, protection, vanishing, authentication, messages, privacy, counting,
  information, mining,
})
