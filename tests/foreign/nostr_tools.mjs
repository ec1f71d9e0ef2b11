// nostr-tools plays scenarios against a relay; see scene.mjs.

import './environment.mjs'
import { play } from './scene.mjs'
import { names } from './nostr_tools/names.mjs'
import { notes } from './nostr_tools/notes.mjs'
import { reconciliation } from './nostr_tools/reconciliation.mjs'
import { deletion, expiration, protection, vanishing } from './nostr_tools/removal.mjs'
import { search } from './nostr_tools/search.mjs'
import { authentication, messages, privacy } from './nostr_tools/privacy.mjs'
import { counting } from './nostr_tools/counting.mjs'
import { groups } from './nostr_tools/groups.mjs'
import { management } from './nostr_tools/management.mjs'
import { membership } from './nostr_tools/membership.mjs'
import { information } from './nostr_tools/information.mjs'
import { mining } from './nostr_tools/mining.mjs'

await play({
  notes, deletion, expiration, protection, vanishing, authentication, messages, privacy, counting,
  groups, information, management, membership, mining, names, reconciliation, search,
})
